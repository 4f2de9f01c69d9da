"""What a study may spend, and when it begins no new setting: pure, in plain numbers.

Hours are wall time of one run and hard: when they are over, fits end after their epoch and can be taken up again.
All other budgets are of the study over all its runs. They end the trying of new settings, never a fit. Of hours,
GPU-hours and epochs enough is held back for the folds in flight and those of the finalists: a champion with all folds
is to be named within the budget, as well as can be told from the fits so far.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.common.errors import BadStudy

# Fits differ in length: so much more is held back than fits took on average.
SLACK = 1.1


@dataclass(frozen=True)
class Cost:
    """What was spent, or will be."""

    hours: float = 0.0  # wall time of this run
    gpu_hours: float = 0.0  # time of fits in lanes x GPUs a lane; without GPUs a lane counts as one
    epochs: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.hours + other.hours, self.gpu_hours + other.gpu_hours, self.epochs + other.epochs)


@dataclass(frozen=True)
class End:
    """Why no new setting is begun."""

    by: str  # a field of `Budget`, "space", "interrupted", "machine" or "failures"
    why: str  # in words, with numbers

    @property
    def is_of_this_run(self) -> bool:
        """Whether the same command goes on with what is left open."""
        return self.by in ("hours", "interrupted", "machine", "failures")


@dataclass(frozen=True)
class Budget:
    """What ends a search; the first that is used up does. At least one is given."""

    trials: int | None = None
    hours: float | None = None
    gpu_hours: float | None = None
    epochs: int | None = None
    until_unlikely: bool = False

    def __post_init__(self) -> None:
        for name in ("hours", "gpu_hours"):
            limit = getattr(self, name)
            if limit is not None and not 0 <= limit < math.inf:
                raise BadStudy(
                    f"--{name.replace('_', '-')}", f"expected a finite number from 0, found {limit}"
                )
        if not any(asdict(self).values()):
            raise BadStudy(
                "budget",
                "a search needs one: --trials, --hours, --gpu-hours, --epochs or --until-unlikely; "
                "of several, the first that is used up ends it",
            )

    @property
    def is_of_training(self) -> bool:
        """Whether it matters what fits cost."""
        return any(limit is not None for limit in (self.hours, self.gpu_hours, self.epochs))

    def used_up(self, configuration: int, spent: Cost, held_back: Cost, new: Cost) -> End | None:
        """Why no new setting is begun; None if one may be.

        `held_back`: what the fits in flight and the finalists' folds will cost; `new`: what a new setting begins with.
        """
        if self.trials is not None and configuration >= self.trials:
            return End("trials", f"{configuration} of {self.trials} trials were begun")
        limits = (("hours", self.hours), ("gpu_hours", self.gpu_hours), ("epochs", self.epochs))
        for name, limit in limits:
            used, kept, more = (getattr(cost, name) for cost in (spent, held_back, new))
            if limit is not None and (used + kept >= limit or used + kept + more > limit):
                rest = f", and {_number(kept)} are held back for the folds of the finalists" if kept else ""
                next_one = f"; another setting begins with {_number(more)}" if used + kept < limit else ""
                return End(
                    name, f"{_number(used)} of {_number(limit)} {WORDS[name]} are spent{rest}{next_one}"
                )
        return None

    def as_dict(self) -> dict[str, Any]:
        """The limits that are given."""
        return {name: limit for name, limit in asdict(self).items() if limit}

    def __str__(self) -> str:
        limits = [
            f"{_number(limit)} {WORDS[name]}" for name, limit in self.as_dict().items() if limit is not True
        ]
        return " or ".join([*limits, *["no improvement is likely"] * self.until_unlikely])


WORDS = {"trials": "trials", "hours": "hours", "gpu_hours": "GPU-hours", "epochs": "epochs"}


@dataclass(frozen=True)
class FitCost:
    """What a fit costs on average."""

    lane_seconds: float
    epochs: float


def cost_of(num_fits: float, fit: FitCost | None, num_lanes: int, gpus_per_lane: float) -> Cost:
    """What so many more fits will cost; nothing is known before the first is finished."""
    if fit is None or not num_fits:
        return Cost()
    waves = math.ceil(num_fits / num_lanes)
    lane_hours = SLACK * fit.lane_seconds / 3600
    return Cost(waves * lane_hours, num_fits * lane_hours * (gpus_per_lane or 1), num_fits * fit.epochs)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:.3g}"
