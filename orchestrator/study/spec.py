"""A study that can run, and what is reported while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_file import SplitPlan
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.search.budget.limits import Budget, End
from orchestrator.search.choices import RuleName, SamplerName
from orchestrator.search.forecast.width import (
    WidthChoice,
)
from orchestrator.search.goals.goals import SecondaryGoals, secondary_goals
from orchestrator.search.goals.objective import Objective, objective_over
from orchestrator.search.race.rules import Verdict
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.status import Status
from orchestrator.search.samplers.registry import default_sampler
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.store.study_store import (
    StudyStore,
    StudyTrial,
)
from orchestrator.search.study_spec import StudySpec
from orchestrator.training.ray.lanes import Shape


@dataclass(frozen=True)
class Study:
    """A study that can run: its specification, and what was loaded for it."""

    home: StudyStore
    space: SearchSpace
    plan: SplitPlan
    datasets: tuple[Dataset, ...]
    unseen: tuple[Dataset, ...]
    spec: StudySpec
    warm_start_configurations: tuple[
        dict[str, Any], ...
    ] = ()  # that the studies of `spec.warm_start` recommend

    def with_options(self, **changes: Any) -> Study:
        """The same study with other options, by the names of the fields of `StudySpec`."""
        return replace(self, spec=replace(self.spec, **changes))

    @property
    def budget(self) -> Budget:
        """What the study may spend. Raises `BadStudy` where the specification has no limit."""
        return Budget.of(self.spec)

    @property
    def seed(self) -> int:
        """Seed of the search."""
        return self.spec.seed

    @property
    def rescore(self) -> int:
        """Finalists, at most, that are re-evaluated before a champion is named; below 2: none."""
        return self.spec.rescore

    @property
    def race(self) -> RuleName:
        """The rule that decides which trial is given another fold."""
        return self.spec.chosen_race

    @property
    def sampler(self) -> SamplerName:
        """What proposes configurations."""
        return self.spec.sampler or default_sampler(len(self.spec.objectives))

    @property
    def objective(self) -> Objective:
        """The objective that names the champion."""
        return objective_over(self.spec.objective, self.datasets)

    @property
    def secondary(self) -> SecondaryGoals:
        """Further objectives, and limits that a champion keeps."""
        spec = self.spec
        return secondary_goals(spec.objectives[1:], self.datasets, spec.constraints, self.home.network_sizes)


class StudyReport(Protocol):
    """Who is told what happens in a study; a context for as long as it runs."""

    def __enter__(self) -> object: ...
    def __exit__(self, *_: object) -> None: ...
    def started(self, study: Study, shape: Shape) -> None: ...
    def width_chosen(self, choice: WidthChoice) -> None: ...
    def trial_started(self, number: int, params: dict[str, Any]) -> None: ...
    def news(self, number: int, fold: int, fit_id: str, rows: list[dict[str, float]]) -> None: ...
    def fold_finished(self, number: int, fold: int, record: FitRecord, masks: MaskChoice) -> None: ...
    def judged(self, number: int, verdict: Verdict) -> None: ...
    def trial_finished(self, trial: StudyTrial) -> None: ...
    def ends(self, end: End) -> None: ...
    def reevaluation_started(self, trials: Sequence[int], num_fits: int) -> None: ...
    def fold_reevaluated(self, number: int, record: FitRecord, masks: MaskChoice) -> None: ...
    def progress(self, status: Status) -> None: ...  # about once a second, from a thread of its own
    def finished(self, champion: StudyTrial | None) -> None: ...
