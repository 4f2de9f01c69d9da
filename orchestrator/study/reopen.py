"""Trials that earlier versions recorded as failed because of the machine are opened again under their own numbers.

Optuna lets nobody change a trial that is over. So the entry of its failure is removed from the study's
storage, and the trial counts as one that was open when the process died.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path

from optuna.trial import TrialState
from sqlalchemy import bindparam, create_engine, text

from orchestrator.common.display import plural
from orchestrator.common.faults import was_machine_fault
from orchestrator.common.files import write_atomically
from orchestrator.common.private_api import member, private
from orchestrator.search.store.optuna_storage import explained_errors, open_database
from orchestrator.search.store.study_store import StudyStore

logger = logging.getLogger(__name__)


def reopen(store: StudyStore) -> tuple[int, ...]:
    """Reopen trials that failed because of the machine; returns their numbers. Needs the study's lock."""
    hurt = [
        trial
        for trial in store.stored_trials()
        if trial.state == TrialState.FAIL and was_machine_fault(trial.user_attrs.get("error", ""))
    ]
    if not hurt:
        return ()
    ids, numbers = {member(trial, "_trial_id") for trial in hurt}, tuple(trial.number for trial in hurt)
    logger.warning(
        "study %s: the machine failed, not the configuration; taken up again: %s %s",
        store.name,
        plural(len(numbers), "trial"),
        ", ".join(map(str, numbers)),
    )
    if store.storage is None:
        _in_journal(store.journal_file, ids)
    else:
        _in_database(store.storage, ids)
    return numbers


def _in_journal(path: Path, trial_ids: Collection[int]) -> None:
    operation = private("JournalOperation")

    def speaks_of_failure(line: bytes) -> bool:
        said = json.loads(line)
        if said.get("trial_id") not in trial_ids:
            return False
        if said["op_code"] == operation.SET_TRIAL_STATE_VALUES:
            return bool(said["state"] == TrialState.FAIL.value)
        return said["op_code"] == operation.SET_TRIAL_USER_ATTR and "error" in said["user_attr"]

    lines = path.read_bytes().splitlines(keepends=True)
    write_atomically(path, b"".join(line for line in lines if not speaks_of_failure(line)))


def _in_database(url: str, trial_ids: Collection[int]) -> None:
    errors = text(
        "DELETE FROM trial_user_attributes WHERE trial_user_attributes.key = 'error' AND trial_id IN :ids"
    )
    states = text("UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE trial_id IN :ids")
    engine = create_engine(url)
    with explained_errors(), engine.begin() as connection:
        for statement in (errors, states):
            those = statement.bindparams(bindparam("ids", expanding=True))
            connection.execute(those, {"ids": list(trial_ids)})
    engine.dispose()
    open_database.cache_clear()  # it remembers trials that are over
