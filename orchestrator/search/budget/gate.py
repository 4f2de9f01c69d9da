"""Gate for new trials: the budget, minus usage, minus the expected cost of folds of the finalists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.search.budget.limits import Budget, End, Resources, cost_of
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.samplers.stopping_rule import ShownTrial, why_unlikely


class BudgetGate:
    """Open while new trials may start. Once closed it stays closed for this run; `end` is the reason."""

    def __init__(
        self, budget: Budget, usage: ResourceUsage, num_lanes: Callable[[], int] = lambda: 1
    ) -> None:
        self.budget, self.usage, self.num_lanes = budget, usage, num_lanes
        self.end: End | None = None
        self.reserved = 0.0  # fits after the search: the re-evaluation of finalists

    def is_open(
        self,
        num_trials: int,
        fits_held_back: Callable[[], float],
        shown: Callable[[], Sequence[ShownTrial]],
        new_fits: int = 1,
    ) -> bool:
        """Whether another trial may start.

        `num_trials`: trials started so far. `new_fits`: fits that the next one starts with. The two callables (fits
        reserved for trials in flight and finalists; trials with their values) are called only if a limit needs them.
        """
        if self.end is None:
            self.end = self._end(num_trials, fits_held_back, shown, new_fits)
        return self.end is None

    def remember(self) -> dict[str, Any] | None:
        """The reason as JSON for `recall`; None while open, or if closed for this run only."""
        if self.end is None or self.end.is_of_this_run:
            return None
        return {**asdict(self.end), "budget": self._of_the_study()}

    def recall(self, stored: Mapping[str, Any] | None) -> None:
        """Close for the reason that an earlier run stored, if the budget is the same."""
        if stored is not None and stored["budget"] == self._of_the_study():
            self.end = End(stored["by"], stored["why"])

    def _of_the_study(self) -> dict[str, Any]:
        return {name: limit for name, limit in self.budget.as_dict().items() if name != "hours"}

    def close(self, by: str, why: str) -> None:
        """Close for a reason that is not the budget."""
        self.end = End(by, why)

    def time_left(self) -> float | None:
        """Share of hours or GPU-hours left, 0 to 1, the smaller of both; None where neither is limited."""
        spent = self.usage.spent()
        used = ((self.budget.hours, spent.hours), (self.budget.gpu_hours, spent.gpu_hours))
        return min((max(0.0, 1 - found / limit) for limit, found in used if limit), default=None)

    @property
    def is_out_of_time(self) -> bool:
        """Whether the hours of this run are used up, which ends everything."""
        return self.budget.hours is not None and self.usage.hours >= self.budget.hours

    def affords(self, fit_ids: Iterable[str]) -> bool:
        """Whether the rest of these fits, and the re-evaluation, stay within the epochs and GPU-hours."""
        if self.budget.epochs is None and self.budget.gpu_hours is None:
            return True
        after = self.usage.spent() + self.cost_of(self.usage.left_of(fit_ids) + self.reserved)
        limits = ((self.budget.epochs, after.epochs), (self.budget.gpu_hours, after.gpu_hours))
        return all(limit is None or found <= limit for limit, found in limits)

    def cost_of(self, num_fits: float) -> Resources:
        """Expected cost of further fits, from the mean of finished ones."""
        return cost_of(num_fits, self.usage.per_fit(), self.num_lanes(), self.usage.gpus_per_lane)

    def _end(
        self,
        num_trials: int,
        fits_held_back: Callable[[], float],
        shown: Callable[[], Sequence[ShownTrial]],
        new_fits: int,
    ) -> End | None:
        spent = held_back = new = Resources()
        if self.budget.is_of_training:
            kept = fits_held_back() + self.reserved
            spent, held_back, new = self.usage.spent(), self.cost_of(kept), self.cost_of(new_fits)
        end = self.budget.used_up(num_trials, spent, held_back, new)
        if end is None and self.budget.until_unlikely and (why := why_unlikely(shown())) is not None:
            return End("until_unlikely", why)
        return end
