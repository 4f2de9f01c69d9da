"""A finished study of the formula whose networks can be exported, and MLflow told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from formula import SPACE, FormulaJobRunner, carry_out, formula_study, replace_weights
from in_mlflow import sync_mlflow
from inline_lanes import InlineLanes
from split_plans import five_fold

from orchestrator import models
from orchestrator.data.cases import load_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.score_job import ScoreJob
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial, outside_cases
from orchestrator.study.champion import choose_champion, spec_of_refit
from orchestrator.study.runnable_study import RunnableStudy


def finished_study(home: Path, rates: Sequence[float]) -> tuple[RunnableStudy, FormulaJobRunner]:
    """A study whose images differ, with its champion scored on a hold-out and on an unseen dataset."""
    study = formula_study(home, num_trials=len(rates))
    draw_dataset(home / "far-frames", num_cases=6, size=32)
    add_dataset(home, "far", home / "far-frames", allow_empty=True)
    unseen = (load_dataset(home, "far"),)
    study = replace(
        study,
        space=parse_space(SPACE.text.replace("[fixed]", "[fixed]\nbase_channels = 4")),
        unseen=unseen,
        plan=five_fold(study.datasets, seed=0, num_folds=3, unseen=unseen),
    )
    work = carry_out(study, rates, lambda ledger: FormulaJobRunner(ledger, noise=0.2, best_epoch=1))
    choose_champion(study.store, InlineLanes(work))
    for trial in study.store.trials():
        for record in trial.records:
            give_weights(record)
    return study, work


def give_weights(record: FitRecord) -> None:
    torch.manual_seed(0)
    replace_weights(record, models.build("unet", base_channels=4))


def refit_here(work: FormulaJobRunner, study: StudyStore, trial: StudyTrial) -> FitRecord:
    """What `champion.refit` does, in this process."""
    spec = spec_of_refit(study, trial)
    work(spec, torch.device("cpu"), 0, lambda row: True)
    plan = study.plan()
    for name, case_ids in outside_cases(plan, study.datasets()[1]).items():
        work(
            ScoreJob(spec.fit_id, name, plan.datasets | plan.unseen, case_ids),
            torch.device("cpu"),
            0,
            lambda row: True,
        )
    give_weights(study.ledger.read(spec.fit_id))
    return study.ledger.read(spec.fit_id)


def tell_mlflow(store: StudyStore, uri: str) -> None:
    """Bring a finished study and its best trial to MLflow."""
    sync_mlflow(store, uri)
