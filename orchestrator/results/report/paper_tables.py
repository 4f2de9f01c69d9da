"""Tables of results in the form of the papers': LaTeX, Markdown, CSV; scores from 0 to 1, as most papers print them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from orchestrator.results.report.facts import StudyFacts
from orchestrator.results.report.prose import half_width
from orchestrator.results.views.score_lines import ScoreLine
from orchestrator.scoring.metrics import REGISTRY

COLUMNS = {
    "DSC": "dice",
    "mIoU": "iou",
    "Recall": "recall",
    "Precision": "precision",
    "F2": "f2",
}  # -> metric
OUTLINES = {"HD95": "hausdorff95", "NSD": "nsd"}  # of masks, which an export has scored
EXTRA = {"FPS": "fps", "Params (M)": "parameters", "GMACs": "gmacs"}
NOTE = (
    "Means over images; 95 %: interval of the mean DSC. HD95 (pixels of the image's file) and NSD need masks, which "
    "are scored when `orchestrator best --export` writes the network; `orchestrator evaluate` gives them for any "
    "dataset. FPS: given if the study measured the time of an inference (--objective inference_ms or a constraint on "
    "it)."
)
STAR = (
    "* differs significantly from the first study on these images (p < 0.05, corrected; see the comparison)."
)
TEX = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "–": "--"})
Marked = frozenset[tuple[str, str]]  # (study, set of images)


def rows(studies: Sequence[StudyFacts], marked: Marked = frozenset()) -> list[list[str]]:
    """Heading, then a row for each study and set of images; `marked`: (study, set) whose DSC gets a *."""
    known = [name for name, key in EXTRA.items() if any(key in study.metrics for study in studies)]
    lines = [line for one in studies if one.champion is not None for line in one.champion.scores]
    outlines = [name for name, metric in OUTLINES.items() if any(metric in line.scores for line in lines)]
    found = [["Method", "Data", "n", *COLUMNS, "95 % of DSC", *outlines, *known]]
    for study in studies:
        for line in study.champion.scores if study.champion is not None else ():
            mark = "*" if (study.name, line.name) in marked else ""
            found.append(
                [
                    f"{study.chosen_network} ({study.name})",
                    line.name,
                    str(line.num_cases),
                    *(
                        f"{_number(line.scores.get(metric))}{mark * (name == 'DSC')}"
                        for name, metric in COLUMNS.items()
                    ),
                    _interval(line),
                    *(_outline(line, OUTLINES[name]) for name in outlines),
                    *(_extra(study, EXTRA[name]) for name in known),
                ]
            )
    return found


def notes(table: Sequence[Sequence[str]]) -> list[str]:
    """Notes that are printed below a table, one sentence each."""
    return [NOTE, *([STAR] if any("*" in cell for row in table[1:] for cell in row) else [])]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    head, *body = [[cell.replace("|", r"\|") for cell in row] for row in table]
    ruler = ["---", "---", *["---:"] * (len(head) - 2)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ruler, *body]) + "\n"


def latex(table: Sequence[Sequence[str]]) -> str:
    """A booktabs table."""
    head, *body = table
    lines = [
        r"% needs \usepackage{booktabs}",
        *(f"% {line}" for line in notes(table)),
        rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
        r"\toprule",
        " & ".join(cell.translate(TEX) for cell in head) + r" \\",
        r"\midrule",
        *(" & ".join(cell.translate(TEX) for cell in row) + r" \\" for row in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def as_csv(table: Sequence[Sequence[str]]) -> str:
    """Comma-separated values."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)
    return buffer.getvalue()


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"


def _outline(line: ScoreLine, metric: str) -> str:
    value = line.scores.get(metric)
    return f"{value:.1f}" if value is not None and REGISTRY[metric].unit == "pixels" else _number(value)


def _interval(line: ScoreLine) -> str:
    if half_width(line.interval) is None or line.interval is None:
        return "–"
    return f"{line.interval[0]:.4f}–{line.interval[1]:.4f}"


def _extra(study: StudyFacts, key: str) -> str:
    value = study.metrics.get(key)
    if value is None:
        return "–"
    return f"{value / 1e6:.2f}" if key == "parameters" else f"{value:.3g}"
