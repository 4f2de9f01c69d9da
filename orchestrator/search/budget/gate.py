"""Whether a new setting may be begun: the budget, less what was spent and what the end of the race will cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.search.budget.limits import Budget, Cost, End, cost_of
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.samplers.stopping_rule import Shown, why_unlikely


class BudgetGate:
    """Once it is closed it stays closed for this run: `end` says why."""

    def __init__(
        self, budget: Budget, spending: ResourceUsage, num_lanes: Callable[[], int] = lambda: 1
    ) -> None:
        self.budget, self.spending, self.num_lanes = budget, spending, num_lanes
        self.end: End | None = None
        self.reserved = 0.0  # fits after the search: the finalists are scored again

    def is_open(
        self,
        configuration: int,
        fits_held_back: Callable[[], float],
        shown: Callable[[], Sequence[Shown]],
        new_fits: int = 1,
    ) -> bool:
        """`settings`: how many were begun; `new_fits`: what one more begins with. Of the rest what matters is asked."""
        if self.end is None:
            self.end = self._end(configuration, fits_held_back, shown, new_fits)
        return self.end is None

    def remember(self) -> dict[str, Any] | None:
        """Why it is closed for good, as JSON for `recall`; None while it is open, or closed for this run alone."""
        if self.end is None or self.end.is_of_this_run:
            return None
        return {**asdict(self.end), "budget": self._of_the_study()}

    def recall(self, told: Mapping[str, Any] | None) -> None:
        """Close it as an earlier run did, if the budget is still the same."""
        if told is not None and told["budget"] == self._of_the_study():
            self.end = End(told["by"], told["why"])

    def _of_the_study(self) -> dict[str, Any]:
        return {name: limit for name, limit in self.budget.as_dict().items() if name != "hours"}

    def close(self, by: str, why: str) -> None:
        """Close it for another reason."""
        self.end = End(by, why)

    @property
    def is_out_of_time(self) -> bool:
        """Whether the hours of this run are over, and everything ends."""
        return self.budget.hours is not None and self.spending.hours >= self.budget.hours

    def affords(self, fit_ids: Iterable[str]) -> bool:
        """Whether what is left of these fits, and those after the search, stay within the epochs and GPU-hours."""
        after = self.spending.spent() + self.cost_of(self.spending.left_of(fit_ids) + self.reserved)
        limits = ((self.budget.epochs, after.epochs), (self.budget.gpu_hours, after.gpu_hours))
        return all(limit is None or found <= limit for limit, found in limits)

    def cost_of(self, num_fits: float) -> Cost:
        """What so many more fits will cost, as far as fits so far tell."""
        return cost_of(num_fits, self.spending.per_fit(), self.num_lanes(), self.spending.gpus_per_lane)

    def _end(
        self,
        configuration: int,
        fits_held_back: Callable[[], float],
        shown: Callable[[], Sequence[Shown]],
        new_fits: int,
    ) -> End | None:
        spent = held_back = new = Cost()
        if self.budget.is_of_training:
            kept = fits_held_back() + self.reserved
            spent, held_back, new = self.spending.spent(), self.cost_of(kept), self.cost_of(new_fits)
        end = self.budget.used_up(configuration, spent, held_back, new)
        if end is None and self.budget.until_unlikely and (why := why_unlikely(shown())) is not None:
            return End("until_unlikely", why)
        return end
