"""Tables and sentences of the page on champions: scores, strata, comparison of several studies."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.results.report.facts import StudyFacts
from orchestrator.results.report.prose import images_for_one_point
from orchestrator.results.report.study_tables import Rows, points_text
from orchestrator.results.views.score_lines import COLUMNS, ScoreLine, interval_text
from orchestrator.scoring.formatting import percent, points, with_ends
from orchestrator.scoring.statistics import Share, few_groups
from orchestrator.selection.comparison import Comparison

NAMES = {"dice": "Dice", "iou": "IoU", "f2": "F2"}  # of scores, as people write them


def score_table(lines: Sequence[ScoreLine]) -> Rows:
    """A row for each set of images."""
    head = [
        "images of",
        "images",
        "groups",
        *(NAMES.get(name, name) for name in COLUMNS),
        "95 % of Dice",
        "images for ± 1 point",
    ]
    return [
        head,
        *(
            [
                line.name,
                f"{line.num_cases:,}",
                "–" if line.num_groups is None else f"{line.num_groups:,}",
                *(percent(line.scores.get(name)) for name in COLUMNS),
                interval_text(line.interval),
                "–" if (count := images_for_one_point(line)) is None else f"{count:,}",
            ]
            for line in lines
        ),
    ]


def score_notes(study: StudyFacts) -> list[str]:
    """Notes below the table of scores, a sentence each; [] without a champion."""
    champion = study.champion
    if champion is None:
        return []
    lines = list(champion.scores[1:])
    found = [
        "Means over images, in percent. On an image without polyp, Dice is 100 if nothing is predicted, else 0. "
        + (
            "Cross-validation: each fold at the threshold that the other folds chose; rows of folds: all at the "
            "trial's "
            "one threshold, so that the first need not be the mean of these."
            if champion.is_cross_fitted and champion.folds
            else ""
        ),
        "Trials were chosen on the images of the folds, so the score of the one that was chosen is a little too good.",
    ]
    if lines:
        names = ", ".join(line.name for line in lines)
        found.append(f"Free of that: {names}. They are of one network: {champion.network}.")
    if champion.missing:
        found.append(champion.missing)
    groups = [line.num_groups for line in champion.scores if line.num_groups is not None]
    if groups and (few := few_groups(min(groups))):
        found.append(f"{few[0].upper()}{few[1:]}.")
    return found


def stratum_table(lines: Sequence[ScoreLine]) -> Rows | None:
    """A row for each stratum of the validation images; None where there is none."""
    if not lines:
        return None
    head = ["validation images", "images", "Dice", "IoU", "precision", "recall", "95 % of Dice"]
    names = ("dice", "iou", "precision", "recall")
    return [
        head,
        *(
            [
                line.name,
                f"{line.num_cases:,}",
                *(percent(line.scores.get(name)) for name in names),
                interval_text(line.interval),
            ]
            for line in lines
        ),
    ]


def presence_sentences(found: Share, left_empty: Share) -> list[str]:
    """Sensitivity and specificity of images, as sentences."""
    return [
        f"{name} {share.num:,} of {share.total:,} ({percent(share.num / share.total)} %{with_ends(share.interval)})."
        if share.total
        else f"{name} none to count: there are no such validation images."
        for name, share in (
            ("Images with a polyp whose mask touches it (sensitivity per image):", found),
            ("Images without a polyp that were left empty (specificity per image):", left_empty),
        )
    ]


def comparison_table(rows: Sequence[Comparison]) -> Rows:
    """The champion of each study against that of the first, a row for each set of images."""
    level = f"{100 * rows[0].confidence:.4g} %"
    head = [
        "images",
        "system",
        "reference",
        "n",
        "groups",
        "system, %",
        "reference, %",
        "difference, points",
        level,
    ]
    return [
        [*head, "p over images", "p over folds", "p, corrected", "P(false claim)"],
        *(
            [
                row.where,
                row.other,
                row.reference,
                f"{row.num_cases:,}",
                f"{row.num_groups:,}",
                percent(row.other_mean),
                percent(row.reference_mean),
                points(row.difference),
                points_text(row.interval),
                f"{row.p_images:.2g}",
                "–" if row.p_folds is None else f"{row.p_folds:.2g}",
                f"{row.p_value:.2g}",
                "unknown" if row.p_false_claim is None else f"{row.p_false_claim:.2g}",
            ]
            for row in rows
        ),
    ]
