"""A study with all that was loaded for it, ready to run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.budget.limits import Budget
from orchestrator.search.choices import RuleName, SamplerName
from orchestrator.search.goals.goals import SecondaryGoals, secondary_goals
from orchestrator.search.goals.objective import Objective, objective_over
from orchestrator.search.samplers.registry import default_sampler
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.study_spec import StudySpec


@dataclass(frozen=True)
class RunnableStudy:
    """A study ready to run: its specification, search space, splits, datasets and store."""

    store: StudyStore
    space: SearchSpace
    plan: SplitPlan
    datasets: tuple[Dataset, ...]
    unseen: tuple[Dataset, ...]
    spec: StudySpec
    warm_start_configurations: tuple[
        dict[str, Any], ...
    ] = ()  # that the studies of `spec.warm_start` recommend

    def with_options(self, **changes: Any) -> RunnableStudy:
        """Copy of the study with other options, by the names of the fields of `StudySpec`."""
        return replace(self, spec=replace(self.spec, **changes))

    @property
    def budget(self) -> Budget:
        """The budget of the study. Raises `BadStudy` if the specification has no limit."""
        return Budget.of(self.spec)

    @property
    def seed(self) -> int:
        """Seed of the search."""
        return self.spec.seed

    @property
    def rescore(self) -> int:
        """Largest number of finalists re-evaluated before a champion is named; below 2: none."""
        return self.spec.rescore

    @property
    def race(self) -> RuleName:
        """The rule that decides which trial is given another fold."""
        return self.spec.chosen_race

    @property
    def sampler(self) -> SamplerName:
        """Name of the sampler, which proposes configurations."""
        return sampler_of(self.spec)

    @property
    def objective(self) -> Objective:
        """The objective that names the champion."""
        return objective_over(self.spec.objective, self.datasets)

    @property
    def secondary(self) -> SecondaryGoals:
        """Further objectives, and constraints that a champion keeps."""
        spec = self.spec
        return secondary_goals(spec.objectives[1:], self.datasets, spec.constraints, self.store.network_sizes)


def sampler_of(spec: StudySpec) -> SamplerName:
    """The sampler of a specification: as given, or the default for so many objectives."""
    return spec.sampler or default_sampler(len(spec.objectives))
