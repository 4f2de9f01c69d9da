"""Remaining time of a search, extrapolated from the race so far, with the calculation in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.common.display import counted
from orchestrator.search.budget.limits import Budget, FitCost, Resources
from orchestrator.search.records.status import Left


@dataclass(frozen=True)
class Ahead:
    """Fits that remain; fractions where they are in flight or estimated."""

    new: int | None  # trials that may still start; None: unknown
    fits_a_configuration: float  # mean over the configurations so far
    in_flight: float
    finals: float  # of the current finalists

    @property
    def fits(self) -> float | None:
        return (
            None if self.new is None else self.new * self.fits_a_configuration + self.in_flight + self.finals
        )


@dataclass(frozen=True)
class Pace:
    """Speed of the study."""

    fit: FitCost | None  # mean of finished fits
    epochs_per_second: float | None
    gpus: float  # in use; lanes where there are no GPUs


def fits_a_configuration(folds_of_configurations: Sequence[int], num_folds: int, races: bool) -> float:
    """Expected folds of a new configuration: the mean so far, shrunk towards half of all folds."""
    if not races:
        return float(num_folds)
    return (sum(folds_of_configurations) + (1 + num_folds) / 2) / (len(folds_of_configurations) + 1)


def forecast(budget: Budget, spent: Resources, ahead: Ahead, pace: Pace) -> Left:
    """The earliest end among the budget's limits, and how it was calculated."""
    ends = [_by_fits(ahead, pace)]
    if ahead.new != 0:
        if budget.hours is not None:
            ends.append(
                Left(3600 * max(0.0, budget.hours - spent.hours), None, f"{budget.hours:g} hours in total")
            )
        if budget.gpu_hours is not None and pace.gpus:
            hours = max(0.0, budget.gpu_hours - spent.gpu_hours) / pace.gpus
            ends.append(
                Left(3600 * hours, None, f"{budget.gpu_hours:g} GPU-hours in total, {pace.gpus:g} in use")
            )
        if budget.epochs is not None and pace.epochs_per_second:
            seconds = max(0.0, budget.epochs - spent.epochs) / pace.epochs_per_second
            how = f"{budget.epochs:,} epochs in total, {pace.epochs_per_second:.2g} per second"
            ends.append(Left(seconds, None, how))
    known = [end for end in ends if end.seconds is not None]
    left = min(known, key=lambda end: end.seconds or 0.0) if known else ends[0]
    if budget.until_unlikely and ahead.new != 0:
        return Left(
            left.seconds, left.fits, f"at most {left.how}" if known else "until no improvement is likely"
        )
    return left


def _by_fits(ahead: Ahead, pace: Pace) -> Left:
    if ahead.fits is None:
        return Left(None, None, "as many trials as the budget allows")
    parts = (
        [f"{counted(ahead.new, 'new trial')} x {ahead.fits_a_configuration:.1f} fits"] if ahead.new else []
    )
    parts += [f"{ahead.in_flight:.1f} in flight"] * bool(ahead.in_flight)
    parts += [f"{ahead.finals:.0f} for the finalists"] * bool(ahead.finals)
    how = f"{counted(round(ahead.fits), 'fit')}: " + ", ".join(parts) if parts else "no fit"
    if pace.fit is None or not pace.epochs_per_second:
        return Left(None, ahead.fits, how)
    seconds = ahead.fits * pace.fit.epochs / pace.epochs_per_second
    return Left(
        seconds,
        ahead.fits,
        f"{how}; {counted(round(pace.fit.epochs), 'epoch')} each, {pace.epochs_per_second:.2g} per second",
    )
