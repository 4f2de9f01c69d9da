"""Budget of a study, and the rule by which no new trial starts: pure functions of numbers.

Hours are wall time of one run and hard: when they are used up, fits end after their epoch and can be resumed. All other
budgets cover all runs of the study; they end the start of new trials, never a fit. Of hours, GPU-hours and epochs,
enough is reserved for the folds in flight and for the finalists, so that a champion with all folds can be chosen within
the budget, as far as past fits predict the cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from orchestrator.common.display import counted, plural
from orchestrator.common.errors import BadStudy
from orchestrator.search.study_spec import StudySpec

# Fits differ in length: this factor above their mean is reserved.
SLACK = 1.1


@dataclass(frozen=True)
class Resources:
    """An amount of wall time, device time and epochs."""

    hours: float = 0.0  # wall time of this run
    gpu_hours: float = 0.0  # time of fits x GPUs per lane; without GPUs a lane counts as one
    epochs: float = 0.0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.hours + other.hours, self.gpu_hours + other.gpu_hours, self.epochs + other.epochs
        )


@dataclass(frozen=True)
class End:
    """The reason why no new trial starts."""

    by: str  # a field of `Budget`, "space", "interrupted", "machine" or "failures"
    why: str  # in words, with numbers

    @property
    def is_of_this_run(self) -> bool:
        """Whether the same command continues with trials that are open."""
        return self.by in ("hours", "interrupted", "machine", "failures")


@dataclass(frozen=True)
class Budget:
    """Limits of a search, at least one; the first that is reached ends it."""

    trials: int | None = None
    hours: float | None = None
    gpu_hours: float | None = None
    epochs: int | None = None
    until_unlikely: bool = False

    def __post_init__(self) -> None:
        for name in ("hours", "gpu_hours"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise BadStudy(
                    f"--{name.replace('_', '-')}", f"expected a finite number above 0, found {limit}"
                )
        if not any(asdict(self).values()):
            raise BadStudy(
                "budget",
                "a search needs one: --trials, --hours, --gpu-hours, --epochs or --until-unlikely; "
                "of several, the first that is used up ends it",
            )

    @classmethod
    def of(cls, spec: StudySpec) -> Budget:
        """The budget of a specification. Raises `BadStudy` if it has no limit."""
        return cls(spec.trials, spec.hours, spec.gpu_hours, spec.epochs, spec.until_unlikely)

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Budget:
        """The budget among the values of a search's options. Raises `BadStudy` if it has no limit."""
        return cls(*(options[limit.name] for limit in fields(cls)))

    @property
    def is_of_training(self) -> bool:
        """Whether a limit depends on the cost of fits."""
        return any(limit is not None for limit in (self.hours, self.gpu_hours, self.epochs))

    def used_up(self, num_trials: int, spent: Resources, held_back: Resources, new: Resources) -> End | None:
        """The reason why no new trial starts, or None.

        `held_back`: expected cost of fits in flight and of the finalists' folds; `new`: of a new trial's first fits.
        """
        if self.trials is not None and num_trials >= self.trials:
            return End("trials", f"{num_trials} of {counted(self.trials, 'trial')} were started")
        limits = (("hours", self.hours), ("gpu_hours", self.gpu_hours), ("epochs", self.epochs))
        for name, limit in limits:
            used, kept, more = (getattr(cost, name) for cost in (spent, held_back, new))
            if limit is not None and (used + kept >= limit or used + kept + more > limit):
                rest = f", and {_number(kept)} are reserved for the folds of the finalists" if kept else ""
                next_one = f"; another trial starts with {_number(more)}" if used + kept < limit else ""
                return End(
                    name,
                    f"{_number(used)} of {_number(limit)} {plural(limit, WORDS[name])} are spent{rest}{next_one}",
                )
        return None

    def as_dict(self) -> dict[str, Any]:
        """The limits that are set, by name."""
        return {name: limit for name, limit in asdict(self).items() if limit}

    def __str__(self) -> str:
        limits = [
            f"{_number(limit)} {plural(limit, WORDS[name])}"
            for name, limit in self.as_dict().items()
            if limit is not True
        ]
        return " or ".join([*limits, *["no improvement is likely"] * self.until_unlikely])


WORDS = {"trials": "trial", "hours": "hour", "gpu_hours": "GPU-hour", "epochs": "epoch"}


@dataclass(frozen=True)
class FitCost:
    """Mean cost of a fit."""

    lane_seconds: float
    epochs: float


def cost_of(num_fits: float, fit: FitCost | None, num_lanes: int, gpus_per_lane: float) -> Resources:
    """Expected cost of further fits; zero before a fit is finished, for nothing is known."""
    if fit is None or not num_fits:
        return Resources()
    waves = math.ceil(num_fits / num_lanes)
    lane_hours = SLACK * fit.lane_seconds / 3600
    return Resources(waves * lane_hours, num_fits * lane_hours * (gpus_per_lane or 1), num_fits * fit.epochs)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:.3g}"
