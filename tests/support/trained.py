"""A small study whose networks are really trained, in this process, without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from formula import SPACE, formula_study
from split_plans import five_fold

from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.space_file import parse_space
from orchestrator.study.runnable_study import RunnableStudy

CPU = torch.device("cpu")
SETTINGS = ((3e-3, 4), (1e-2, 4), (1e-2, 6))  # learning rate, channels


def trained_study(home: Path) -> RunnableStudy:
    """Three trials with two folds each, trained for real, and scored on nothing but their folds."""
    text = SPACE.text.replace("[fixed]", "base_channels = { int = [4, 6], step = 2 }\n[fixed]")
    space = parse_space(text.replace("[baseline]", "[baseline]\nbase_channels = 4"))
    study = formula_study(home, num_trials=len(SETTINGS))
    study = replace(study, space=space, plan=five_fold(study.datasets, seed=0, num_folds=2))
    study.store.begin(study.space, study.plan, study.spec)
    optuna, work = study.store.optuna_study(), work_of(study)
    for rate, channels in SETTINGS:
        optuna.enqueue_trial({"learning_rate": rate, "base_channels": channels})
        trial = optuna.ask()
        for spec in fold_specs(study.space.configuration(study.space.sample(trial)), study.plan):
            work(spec, CPU, 0, lambda row: True)
        optuna.tell(trial, study.store.trials()[trial.number].score().metrics["dice"])
    return study


def work_of(study: RunnableStudy) -> FitJobRunner:
    """What performs its jobs."""
    return FitJobRunner(study.store.home, study.store.home / "cache", study.store.ledger)
