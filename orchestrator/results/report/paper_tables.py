"""Tables of results in the form of the papers': LaTeX, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from orchestrator.results.report.facts import ScoreFacts, StudyFacts
from orchestrator.results.report.prose import half_width

# Column of a table -> metric of ours, factor.
COLUMNS = {
    "DSC": ("dice", 1),
    "mIoU": ("iou", 1),
    "Recall": ("recall", 1),
    "Precision": ("precision", 1),
    "F2": ("f2", 1),
}
EXTRA = {"HD95 (px)": "hd95", "NSD": "nsd", "FPS": "fps", "Params (M)": "parameters", "GMACs": "gmacs"}
TEX = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"})


def rows(studies: Sequence[StudyFacts], better: frozenset[str] = frozenset()) -> list[list[str]]:
    """A heading, then a row for each study and set of images; `better`: studies to mark with *."""
    known = [name for name, key in EXTRA.items() if any(key in study.metrics for study in studies)]
    found = [["Method", "Data", "n", *COLUMNS, "95 % of DSC", *known]]
    for study in studies:
        for line in study.champion.scores if study.champion is not None else ():
            mark = "*" if study.name in better else ""
            found.append(
                [
                    f"{study.network} ({study.name}){mark}",
                    line.name,
                    str(line.num_cases),
                    *(_number(line.scores.get(metric)) for metric, _ in COLUMNS.values()),
                    _interval(line),
                    *(_extra(study, EXTRA[name]) for name in known),
                ]
            )
    return found


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    head, *body = table
    ruler = ["---", "---", *["---:"] * (len(head) - 2)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ruler, *body]) + "\n"


def latex(table: Sequence[Sequence[str]]) -> str:
    """A booktabs table."""
    head, *body = table
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
        r"\toprule",
        " & ".join(cell.translate(TEX) for cell in head) + r" \\",
        r"\midrule",
        *(" & ".join(cell.translate(TEX).replace("–", "--") for cell in row) + r" \\" for row in body),
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


def _interval(line: ScoreFacts) -> str:
    if half_width(line.interval) is None or line.interval is None:
        return "–"
    return f"{line.interval[0]:.4f}–{line.interval[1]:.4f}"


def _extra(study: StudyFacts, key: str) -> str:
    value = study.metrics.get(key)
    if value is None:
        return "–"
    return f"{value / 1e6:.2f}" if key == "parameters" else f"{value:.2f}"
