"""Scores of a model on one set of images, as a line of a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.scoring.formatting import percent
from orchestrator.scoring.metrics import METRICS

CROSS_VALIDATION = "cross-validation"  # the name of the line whose thresholds are cross-fitted
COLUMNS = METRICS


@dataclass(frozen=True)
class ScoreLine:
    """Mean scores over a set of images, and the interval of the mean Dice."""

    name: str
    num_cases: int
    scores: Mapping[str, float]  # metric -> mean over the images, a share in [0, 1] or pixels
    interval: tuple[float, float] | None = (
        None  # 95 % of the mean Dice, or of another metric where one is chosen; infinite where nothing is known
    )
    num_groups: int | None = None  # that the interval is over


def interval_text(interval: tuple[float, float] | None, show: Callable[[float], str] = percent) -> str:
    """(0.8, 0.9) -> 80.00 to 90.00."""
    if interval is None:
        return "–"
    return " to ".join(map(show, interval)) if all(map(math.isfinite, interval)) else "unknown"


def score_table(lines: Sequence[ScoreLine]) -> str:
    """A Markdown table of scores in percent."""
    head = ["", "images", *COLUMNS, "95 % of dice"]
    rows = [
        [
            line.name,
            str(line.num_cases),
            *(percent(line.scores.get(name, math.nan)) for name in COLUMNS),
            interval_text(line.interval) + _over(line.num_groups),
        ]
        for line in lines
    ]
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ruler, *rows])


def _over(num_groups: int | None) -> str:
    if num_groups is None:
        return ""
    return " (1 group)" if num_groups == 1 else f" ({num_groups} groups)"


def epoch_line(row: dict[str, float], epochs: int) -> str:
    """Line of text on one epoch; Dice in percent at its best threshold, left out where none is computed."""
    dice = "" if math.isnan(row["val_dice"]) else f"val dice {percent(row['val_dice'])}  "
    return (
        f"epoch {row['epoch'] + 1:.0f}/{epochs}  loss {row['train_loss']:.4f}  {dice}"
        f"lr {row['learning_rate']:.2e}  {row['images_per_second']:.1f} images/s"
    )
