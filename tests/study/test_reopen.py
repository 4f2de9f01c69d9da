"""Trials that the machine failed, in a journal and in a database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from formula import formula_study
from optuna.trial import TrialState

from orchestrator.search.store.optuna_storage import open_database
from orchestrator.search.store.study_store import StudyStore
from orchestrator.study.reopen import reopen
from orchestrator.study.run import begin

FULL = "fold 0: tried 3 times; OSError: [Errno 28] No space left on device"
NAN = "fold 0: the loss became nan in epoch 1 at learning rate 0.1"


@pytest.fixture(params=["journal", "sqlite"])
def store(request, tmp_path: Path) -> StudyStore:
    """Two trials that failed, the first by a full disk, and one that is complete."""
    url = None if request.param == "journal" else f"sqlite:///{tmp_path}/trials.db"
    study = formula_study(tmp_path, num_trials=3).with_options(storage=url)
    begin(study)
    stored = study.store.optuna_study()
    for error in (FULL, NAN, None):
        trial = stored.ask()
        trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
        if error is not None:
            trial.set_user_attr("error", error)
        stored.tell(trial, None if error else 0.5, state=TrialState.FAIL if error else TrialState.COMPLETE)
    yield study.store
    if url is not None:
        open_database(url)._backend.engine.dispose()  # type: ignore[attr-defined]
        open_database.cache_clear()


def read(store: StudyStore, what: Callable[[optuna.trial.FrozenTrial], object]) -> list[object]:
    return [what(trial) for trial in store.stored_trials()]


def test_a_trial_that_a_full_disk_failed_is_open_again_and_no_other(store: StudyStore):
    before = read(store, lambda trial: trial.params)
    assert reopen(store) == (0,) and reopen(store) == ()
    assert read(store, lambda trial: trial.state) == [
        TrialState.RUNNING,
        TrialState.FAIL,
        TrialState.COMPLETE,
    ]
    assert read(store, lambda trial: trial.user_attrs.get("error")) == [None, NAN, None]
    assert read(store, lambda trial: trial.params) == before


def test_a_trial_that_was_opened_again_can_end(store: StudyStore):
    reopen(store)
    store.optuna_study().tell(0, 0.7)
    assert read(store, lambda trial: trial.value) == [0.7, None, 0.5]
