"""The goals of a study besides its first objective: further objectives, constraints, the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from orchestrator.common.errors import BadStudy
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.choices import CostName, GoalName, ObjectiveName
from orchestrator.search.goals.constraints import Limit, limits_of
from orchestrator.search.goals.model_cost import Cost
from orchestrator.search.goals.network_sizes import IN_MEMORY, NetworkSizes
from orchestrator.search.goals.objective import Objective, objective_over, objective_problems
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.space.space import Configuration

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class SecondaryGoals:
    """Objectives after the first one, which is a score, and constraints that a champion meets."""

    objectives: tuple[Objective | Cost, ...] = ()
    limits: tuple[Limit, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(goal.name for goal in self.objectives)

    @property
    def directions(self) -> list[Direction]:
        """Directions of all objectives, the first included: scores are maximised, costs minimised."""
        secondary: list[Direction] = [
            "minimize" if isinstance(goal, Cost) else "maximize" for goal in self.objectives
        ]
        return ["maximize", *secondary]

    @property
    def is_measured(self) -> bool:
        """Whether fits must time an inference."""
        costs = [*self.objectives, *(limit.cost for limit in self.limits)]
        return any(isinstance(cost, Cost) and cost.is_measured for cost in costs)

    def values(
        self, configuration: Configuration, score: TrialScore, inference_ms: Sequence[float | None]
    ) -> tuple[float, ...]:
        """Values of the objectives after the first one. ValueError if inference is one and was not timed."""
        found = [
            goal(configuration, inference_ms) if isinstance(goal, Cost) else goal(score)
            for goal in self.objectives
        ]
        if None in found:
            raise ValueError("no finished fit of this trial has timed an inference")
        return tuple(float(value) for value in found if value is not None)

    def excess(
        self, configuration: Configuration, inference_ms: Sequence[float | None] = ()
    ) -> dict[str, float]:
        """Text of a limit -> excess as a share, at most 0 if it is kept; unknown costs are left out."""
        found = {str(limit): limit.excess(configuration, inference_ms) for limit in self.limits}
        return {limit: value for limit, value in found.items() if value is not None}

    def broken(self, configuration: Configuration, inference_ms: Sequence[float | None] = ()) -> str | None:
        """Text that names the constraints that are not met; None if none is known to be exceeded."""
        found = [limit.broken(configuration, inference_ms) for limit in self.limits]
        return ", ".join(words for words in found if words) or None

    def problems(self, plan: SplitPlan) -> list[str]:
        """Reasons why objectives cannot be computed on this split; [] if all can be."""
        scores = [goal for goal in self.objectives if isinstance(goal, Objective)]
        return [problem for goal in scores for problem in objective_problems(goal, plan)]


def secondary_goals(
    names: Sequence[GoalName],
    datasets: Sequence[Dataset],
    constraints: Sequence[str] = (),
    sizes: NetworkSizes = IN_MEMORY,
) -> SecondaryGoals:
    """The objectives of these names, and these limits, for a study on these datasets."""
    objectives = tuple(_goal(name, datasets, sizes) for name in names)
    return SecondaryGoals(objectives, limits_of(constraints, sizes))


def primary_and_secondary(names: Sequence[str]) -> tuple[ObjectiveName, tuple[GoalName, ...]]:
    """The objective that selects the champion, and the other ones. Raises `BadStudy` if that is no score."""
    known, scores = get_args(GoalName), get_args(ObjectiveName)
    problems = [f"expected one of {', '.join(known)}; found {name}" for name in names if name not in known]
    if names[0] not in scores:
        problems.append(
            f"the first one decides the champion, so it must be one of {', '.join(scores)}; found {names[0]}"
        )
    if problems:
        raise BadStudy("--objective", problems)
    first, *others = names
    return cast(ObjectiveName, first), cast(tuple[GoalName, ...], tuple(others))


def _goal(name: Any, datasets: Sequence[Dataset], sizes: NetworkSizes) -> Objective | Cost:
    return Cost(name, sizes) if name in get_args(CostName) else objective_over(name, datasets)


def front(values: Mapping[int, Sequence[float]], directions: Sequence[Direction]) -> tuple[int, ...]:
    """Trials of the Pareto front: no other one is as good in every value and better in one."""
    signs = [1 if direction == "maximize" else -1 for direction in directions]
    points = {
        number: [sign * value for sign, value in zip(signs, own, strict=True)]
        for number, own in values.items()
    }
    found: list[int] = []
    # A trial that is better in all comes earlier in this order, so it, or a better one, was found already.
    for number in sorted(points, key=lambda number: points[number], reverse=True):
        if not any(_dominates(points[other], points[number]) for other in found):
            found.append(number)
    known = set(found)
    return tuple(number for number in points if number in known)


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
