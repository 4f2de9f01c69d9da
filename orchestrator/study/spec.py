"""What a study is made of, and what is reported while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_file import SplitPlan
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.search.budget.limits import Budget, End
from orchestrator.search.choices import GoalName, ObjectiveName, RuleName, SamplerName
from orchestrator.search.forecast.width import (
    WidthChoice,
)
from orchestrator.search.goals.goals import SecondaryGoals, secondary_goals
from orchestrator.search.goals.objective import Objective, objective_over
from orchestrator.search.race.rules import Verdict
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.status import Status
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.store.study_store import (
    StudyStore,
    StudyTrial,
)
from orchestrator.training.ray.lanes import Shape


@dataclass(frozen=True)
class Study:
    """What is searched, on what, and for how long."""

    home: StudyStore
    space: SearchSpace
    plan: SplitPlan
    datasets: tuple[Dataset, ...]
    unseen: tuple[Dataset, ...]
    budget: Budget
    seed: int
    race: RuleName = "paired"
    sampler: SamplerName = "surrogate"
    maximise: ObjectiveName = "mean"
    secondary: tuple[GoalName, ...] = ()  # further objectives
    constraints: tuple[str, ...] = ()  # limits that a champion keeps
    warm_start: tuple[str, ...] = ()  # earlier studies
    warm_start_configurations: tuple[dict[str, Any], ...] = ()  # the settings that they recommend
    storage: str | None = None  # URL of a database; None: the one it has, or the journal
    rescore: int = 0  # finalists, at most, that are scored again before one is named; below 2: none

    @property
    def objective(self) -> Objective:
        return objective_over(self.maximise, self.datasets)

    @property
    def also(self) -> SecondaryGoals:
        return secondary_goals(self.secondary, self.datasets, self.constraints, self.home.network_sizes)


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
