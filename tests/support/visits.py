"""A study on disk, its fits made by formula, on simulated lanes or under Tune's searcher without Ray."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from formula import SPACE, FormulaJobRunner, formula_study, quality
from optuna.trial import FixedTrial

from orchestrator.data.splits.plan import group_of_case
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.choices import GoalName, ObjectiveName, RuleName, SamplerName
from orchestrator.search.engine import Engine, LaneCapacity, Visit
from orchestrator.search.goals.objective import Objective
from orchestrator.search.optuna_trials import OptunaTrials
from orchestrator.search.race.state import RaceState
from orchestrator.search.ray_tune.searcher import EngineSearcher
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.simulated.lanes import SimulatedLanes
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.store.optuna_storage import open_database, open_journal
from orchestrator.study.runnable_study import RunnableStudy

NUM_FOLDS = 5


@dataclass(frozen=True)
class FormulaFits:
    """What stands in for training: records of the formula, a second each."""

    study: DiskStudy
    num_epochs: int

    def curve(self, number: int, fold: int) -> list[float]:
        recipe = self.study.state.configurations[number].recipe
        return [quality(recipe.learning_rate)] * self.num_epochs

    def seconds(self, number: int, fold: int) -> float:
        return 1.0

    def finish(self, number: int, fold: int) -> None:
        self.study.train_fit(number, fold)

    def abandon(self, number: int, fold: int) -> None:
        """What was trained of it leaves no record."""


class DiskStudy:
    """The engine of a study on disk, with Tune's searcher over it."""

    def __init__(
        self,
        home: Path,
        folder: Path,
        *,
        num_trials: int | None = 4,
        seed: int = 0,
        race: RuleName = "none",
        sampler: SamplerName = "surrogate",
        num_lanes: int = 1,
        storage: str | None = None,
        objective: ObjectiveName = "mean",
        secondary: tuple[GoalName, ...] = (),
        constraints: tuple[str, ...] = (),
        warm_start_configurations: tuple[dict[str, Any], ...] = (),
        space: SearchSpace = SPACE,
        noise: float = 0.0,
        unfinished: dict[str, Any] | None = None,
        **budget: Any,
    ) -> None:
        made = formula_study(home, num_trials=num_trials, seed=seed, race=race, **budget)
        goals: Any = {"objectives": ("mean", *secondary), "constraints": constraints}
        self.study: RunnableStudy = replace(made, space=space).with_options(**goals)
        self.ledger = type(self.study.store.ledger)(folder / "ledger")
        folder.mkdir(parents=True, exist_ok=True)
        stored = optuna.create_study(
            storage=open_database(storage) if storage else open_journal(folder / "optuna.journal"),
            study_name=str(folder) if storage else folder.name,
            directions=self.study.secondary.directions,
            load_if_exists=True,
        )
        plan, self.log = self.study.plan, folder / "race.jsonl"
        self.groups = group_of_case(self.study.datasets, plan.near_duplicates)
        worth = Objective(objective), self.study.secondary
        self.state = RaceState(self.ledger, space, plan, self.groups, race, self.log, *worth)
        self.gate = BudgetGate(self.study.budget, ResourceUsage(self.ledger, unfinished), lambda: num_lanes)
        begun = {"sampler": sampler, "warm_start_configurations": warm_start_configurations}
        trials = OptunaTrials(stored, space, self.state, seed=seed, **begun)  # type: ignore[arg-type]
        self.engine = Engine(trials, self.state, self.gate, LaneCapacity(NUM_FOLDS, lambda: num_lanes))
        self.searcher, self.num_visits, self.noise = EngineSearcher(self.engine), 0, noise

    def suggest(self) -> tuple[str, dict]:
        name = f"tune-{self.num_visits}"
        self.num_visits += 1
        return name, self.searcher.suggest(name)

    def train(self, visit: dict, folds: list[int] | None = None) -> None:
        for fold in visit["folds"] if folds is None else folds:
            self.train_fit(visit["number"], fold)

    def train_fit(self, number: int, fold: int) -> None:
        spec = fold_specs(self.state.configurations[number], self.study.plan)[fold]
        FormulaJobRunner(self.ledger, noise=self.noise)(spec, None, 0, lambda row: True)  # type: ignore[arg-type]
        self.gate.usage.finish(self.ledger.read(spec.fit_id))

    def lanes(self, num_lanes: int = 1, num_epochs: int = 1) -> SimulatedLanes:
        """Lanes on a simulated clock; every fit reports so many epochs, the last one with its end."""
        return SimulatedLanes(self.engine, FormulaFits(self, num_epochs), num_lanes)

    def as_dict(self, visit: Visit) -> dict:
        """A visit as the searcher suggests it."""
        params = self.study.space.sample(FixedTrial(self.trials[visit.number].params))
        return {"number": visit.number, "params": params, "folds": list(visit.folds)}

    def carry_out(self, name: str, visit: dict) -> None:
        """Train a visit fold by fold, as long as its trial is not stopped."""
        for fold in visit["folds"]:
            self.train(visit, [fold])
            if self.engine.finish(visit["number"], fold).action == "stop":
                break
        self.searcher.on_trial_complete(name, {})

    def run(self, num_visits: int = 1000) -> list[dict]:
        """Carry out visits on one simulated lane until the engine has no more, or so many have ended."""
        lanes = self.lanes()
        lanes.run(lambda: lanes.num_ended >= num_visits)
        return [self.as_dict(visit) for visit in lanes.visits]

    def fail(self, name: str, number: int, error: str = "the loss became nan") -> None:
        self.ledger.write_failure(number, error)
        self.searcher.on_trial_complete(name, error=True)

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.engine.trials.study.trials
