"""Which published differences are larger than chance over the test images would make them.

Papers print means of n images without their spread. What spread these images have for two networks is measured here, on
the networks of the same rows: the standard deviation of the difference of both Dice values, image by image. Under the
assumption that the paper's own networks differ from image to image as much as these do, a difference of means over n
images has a 95 % half-width of 1.96 SD / sqrt(n). Chance of training is not in it, so this is the least that a
difference must exceed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from orchestrator.protocols.outcome.measured import dice_by_image
from orchestrator.protocols.plan import TablePlan
from orchestrator.protocols.run import TableRun
from orchestrator.scoring.papers import PAPER_SCORES

DICE = ("dice_gmsrf", "dice_soft", "dice_endocv", "dice_mediaeval")
Z = 1.96
FEWEST = 10  # images for a standard deviation


@dataclass(frozen=True)
class Difference:
    """Two rows of a paper on one test set."""

    test: str
    score: str  # the column
    better: str
    worse: str
    published: float  # difference, above 0
    num_images: int  # of the paper
    paired_sd: float | None  # of Dice by image, measured here; None: too few images
    correlation: float | None  # between both networks' Dice by image
    note: str = ""

    @property
    def half_width(self) -> float | None:
        """Of the 95 % interval of the published difference."""
        return None if self.paired_sd is None else Z * self.paired_sd / math.sqrt(self.num_images)

    @property
    def survives(self) -> bool | None:
        """Whether it is larger; None where nothing can be said."""
        return None if self.half_width is None else self.published > self.half_width

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"half_width": self.half_width, "survives": self.survives}


def published_differences(run: TableRun) -> tuple[Difference, ...]:
    """The best published row of every test set against each other one, by Dice."""
    return tuple(
        difference
        for test in run.plan.table.tests
        if test.images and test.part != "none"
        for difference in _of_set(run, test.name, test.images)
    )


def _of_set(run: TableRun, test: str, num_images: int) -> list[Difference]:
    column = _dice_column(run.plan)
    if column is None:
        return []
    name = run.plan.table.columns[column].name
    numbers = {
        row.name: number
        for row in run.plan.rows
        if (number := run.plan.table.number(row.name, test, column)) is not None
    }
    ranked = sorted(numbers, key=lambda row: -numbers[row])
    return [
        _difference(run, test, name, num_images, ranked[0], other, numbers[ranked[0]] - numbers[other])
        for other in ranked[1:]
    ]


def _difference(
    run: TableRun, test: str, column: str, num_images: int, better: str, worse: str, published: float
) -> Difference:
    ours, theirs = (dice_by_image(run.rows[name], test) for name in (better, worse))
    common = sorted(ours.keys() & theirs.keys())
    if len(common) < FEWEST:
        note = f"{len(common)} images are too few"
        return Difference(test, column, better, worse, published, num_images, None, None, note)
    one, other = (np.array([found[id] for id in common]) for found in (ours, theirs))
    spread = float(np.std(one - other, ddof=1))
    if _same_fits(run, better, worse):
        note = "both rows read the same network"
    elif spread == 0:
        note = "both networks give the same masks here"
    else:
        both_vary = one.std() > 0 and other.std() > 0
        correlation = float(np.corrcoef(one, other)[0, 1]) if both_vary else None
        return Difference(test, column, better, worse, published, num_images, spread, correlation)
    return Difference(test, column, better, worse, published, num_images, None, None, note)


def _same_fits(run: TableRun, better: str, worse: str) -> bool:
    fits = {row.name: [spec.fit_id for spec in row.fits] for row in run.plan.rows}
    return fits[better] == fits[worse]


def _dice_column(plan: TablePlan) -> int | None:
    names: Sequence[str | None] = [column.score for column in plan.table.columns]
    return next((place for place, name in enumerate(names) if name in DICE and name in PAPER_SCORES), None)
