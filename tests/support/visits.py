"""A study whose visits are carried out one after another, without Ray and without networks: see formula.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from formula import SPACE, FormulaJobRunner, formula_study
from ray.tune.search import Searcher

from orchestrator.data.splits.plan import group_of_case
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.choices import GoalName, RuleName, SamplerName
from orchestrator.search.race.state import RaceState
from orchestrator.search.ray_tune.searcher import LaneCapacity, OptunaSearcher
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.store.optuna_storage import open_database, open_journal
from orchestrator.study.spec import Study

NUM_FOLDS = 5


class Engine:
    """What Tune, the lanes and the scheduler do, one visit after another."""

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
        self.study: Study = replace(made, space=space).with_options(**goals)
        self.ledger = type(self.study.home.ledger)(folder / "ledger")
        folder.mkdir(parents=True, exist_ok=True)
        stored = optuna.create_study(
            storage=open_database(storage) if storage else open_journal(folder / "optuna.journal"),
            study_name=str(folder) if storage else folder.name,
            directions=self.study.secondary.directions,
            load_if_exists=True,
        )
        plan, self.log = self.study.plan, folder / "race.jsonl"
        self.groups = group_of_case(self.study.datasets, plan.near_duplicates)
        self.standings = RaceState(
            self.ledger, self.study.space, plan, self.groups, race, self.log, secondary=self.study.secondary
        )
        self.purse = BudgetGate(self.study.budget, ResourceUsage(self.ledger, unfinished), lambda: num_lanes)
        self.searcher = OptunaSearcher(
            stored,
            self.study.space,
            self.standings,
            purse=self.purse,
            seed=seed,
            room=LaneCapacity(NUM_FOLDS, lambda: num_lanes),
            sampler=sampler,
            warm_start_configurations=warm_start_configurations,
        )
        self.num_visits, self.noise = 0, noise

    def suggest(self) -> tuple[str, dict]:
        name = f"tune-{self.num_visits}"
        self.num_visits += 1
        return name, self.searcher.suggest(name)

    def train(self, visit: dict, folds: list[int] | None = None) -> None:
        specs = fold_specs(self.study.space.configuration(visit["params"]), self.study.plan)
        for fold in visit["folds"] if folds is None else folds:
            FormulaJobRunner(self.ledger, noise=self.noise)(specs[fold], None, 0, lambda row: True)  # type: ignore[arg-type]
            self.purse.spending.finish(self.ledger.read(specs[fold].fit_id))

    def run(self, num_visits: int = 1000) -> list[dict]:
        """Carry out visits until the searcher has no more, or so many."""
        visits = []
        while len(visits) < num_visits:
            name, visit = self.suggest()
            if visit == Searcher.FINISHED:
                return visits
            assert visit is not None
            self.train(visit)
            self.standings.judge(visit["number"])
            self.searcher.on_trial_complete(name, {})
            visits.append(visit)
        return visits

    def fail(self, name: str, number: int, error: str = "the loss became nan") -> None:
        self.ledger.write_failure(number, error)
        self.searcher.on_trial_complete(name, error=True)

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.searcher.study.trials
