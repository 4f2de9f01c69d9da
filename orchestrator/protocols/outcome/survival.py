"""Which published differences are larger than chance over the test images would make them.

Papers print means of n images without their spread. Two things can be said of the difference of two such means:

- Whatever the spread: values from 0 to 1 with mean m have a standard deviation of sqrt(m (1 - m)) at most, and their
  difference the sum of both at most. What is larger than 1.96 times that over sqrt(n) is beyond chance over images.
- With the spread of networks that score alike: the standard deviation of the difference of Dice, image by image, as
  measured here on the networks of the same rows. It is taken for the paper's where both networks score here within
  `ALIKE` of what the paper prints, for the spread of Dice depends on its level.

Chance of training is in neither, so this is the least that a difference must exceed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from orchestrator.protocols.outcome.measured import dice_by_image
from orchestrator.protocols.plan import TablePlan
from orchestrator.protocols.run import TableRun

DICE = ("dice_gmsrf", "dice_soft", "dice_endocv")  # means over images of values from 0 to 1
Z = 1.96
FEWEST = 10  # images for a standard deviation
ALIKE = 0.1  # of Dice


@dataclass(frozen=True)
class Difference:
    """Published scores of two rows of a paper on one test set, and the spread measured here."""

    test: str
    score: str  # the column
    better: str
    worse: str
    published: tuple[float, float]  # of better and worse
    num_images: int  # of the paper
    measured: tuple[float, float] | None = None  # Dice here; None: too few images, or one network
    paired_sd: float | None = None  # of the difference of Dice by image, measured here
    correlation: float | None = None  # between both networks' Dice by image

    @property
    def difference(self) -> float:
        """The difference of the published numbers, above 0."""
        return self.published[0] - self.published[1]

    @property
    def largest_half_width(self) -> float:
        """Half the width of the 95 % interval of the difference, with the largest spread that these means allow."""
        largest = sum(math.sqrt(max(0.0, mean * (1 - mean))) for mean in self.published)
        return Z * largest / math.sqrt(self.num_images)

    @property
    def half_width(self) -> float | None:
        """Half the width of the 95 % interval, with the spread that was measured here."""
        return None if self.paired_sd is None else Z * self.paired_sd / math.sqrt(self.num_images)

    @property
    def scores_alike(self) -> bool:
        """Whether both networks score here about as the paper prints."""
        pairs = zip(self.measured or (), self.published, strict=False)
        return self.measured is not None and all(abs(here - there) <= ALIKE for here, there in pairs)

    @property
    def survives(self) -> bool | None:
        """Whether the difference exceeds its half width; None where nothing can be said."""
        if self.difference > self.largest_half_width:
            return True
        if self.half_width is None or not self.scores_alike:
            return None
        return self.difference > self.half_width

    @property
    def why(self) -> str:
        """Verdict on the difference in words."""
        if self.difference > self.largest_half_width:
            return "yes, whatever the spread"
        if self.survives is not None:
            return "yes, with the spread here" if self.survives else "no, with the spread here"
        if self.measured is None:
            return "not known: no spread was measured"
        return "not known: scores here are {:.2f} and {:.2f}".format(*self.measured)

    def as_dict(self) -> dict[str, Any]:
        """Fields and derived values as a dictionary."""
        derived = ("difference", "largest_half_width", "half_width", "scores_alike", "survives", "why")
        return asdict(self) | {name: getattr(self, name) for name in derived}


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
        Difference(
            test,
            name,
            ranked[0],
            other,
            (numbers[ranked[0]], numbers[other]),
            num_images,
            **_spread(run, test, ranked[0], other),
        )
        for other in ranked[1:]
    ]


def _spread(run: TableRun, test: str, better: str, worse: str) -> Mapping[str, Any]:
    """Means, SD of the difference and correlation of two rows' Dice over shared images; {} if few."""
    ours, theirs = (dice_by_image(run.rows[name], test) for name in (better, worse))
    common = sorted(ours.keys() & theirs.keys())
    if len(common) < FEWEST or _same_fits(run, better, worse):
        return {}
    one, other = (np.array([found[id] for id in common]) for found in (ours, theirs))
    both_vary = one.std() > 0 and other.std() > 0
    return {
        "measured": (float(one.mean()), float(other.mean())),
        "paired_sd": float(np.std(one - other, ddof=1)),
        "correlation": float(np.corrcoef(one, other)[0, 1]) if both_vary else None,
    }


def _same_fits(run: TableRun, better: str, worse: str) -> bool:
    fits = {row.name: [spec.fit_id for spec in row.fits] for row in run.plan.rows}
    return bool(fits[better]) and fits[better] == fits[worse]


def _dice_column(plan: TablePlan) -> int | None:
    names = [column.score for column in plan.table.columns]
    return next((place for place, name in enumerate(names) if name in DICE), None)
