"""Damaged files of a study (power cut, full disk, bad copy): how they are reported, and repaired by the next search.

Commands that only read change nothing: `damage` names the unreadable files, which are left out. A search sets
them aside, into `ledger/damaged/`, and makes their content again; nothing is ever deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.common.display import counted
from orchestrator.common.errors import BadSplit, BadStudy
from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import Unreadable, parse_json
from orchestrator.search.forecast.time_job import read_speeds
from orchestrator.search.race.state import RaceState
from orchestrator.search.race.verdict_log import split_verdicts
from orchestrator.search.store.optuna_journal import write_journal
from orchestrator.search.store.study_store import StudyStore
from orchestrator.selection.nested import nested_of
from orchestrator.selection.reevaluation import read_rescoring
from orchestrator.training.recipe import FitSpec

if TYPE_CHECKING:
    from orchestrator.search.budget.gate import BudgetGate
    from orchestrator.search.progress.monitor import ProgressMonitor
    from orchestrator.training.ray.dispatcher import JobUpdate
    from orchestrator.training.ray.lanes import Lanes

logger = logging.getLogger(__name__)


def restore(store: StudyStore) -> None:
    """Set unreadable files aside, so that a search makes them again. Needs the study's lock."""
    store.repair()
    for folder, why in store.ledger.damaged(thorough=True).items():
        logger.warning(
            "%s: %s; it is kept as %s, and made again", folder, why, store.ledger.set_aside(folder)
        )
    _restore_verdicts(store)
    _restore_journal(store)
    for file, read in _derived(store):
        _set_aside_unread(store, file, read)


def train_lost(
    lost: Mapping[str, FitSpec],
    standings: RaceState,
    lanes: Lanes,
    gate: BudgetGate,
    is_over: Callable[[], bool],
    monitor: ProgressMonitor,
) -> None:
    """Train fits again whose records are lost; verdicts on their trials remain valid."""
    if not lost:
        return
    logger.warning("trained again, because records are gone: %s", counted(len(lost), "fit"))

    def count_epochs(fit_id: str, update: JobUpdate) -> None:
        gate.usage.add_epochs(fit_id, update.rows)
        if update.state == "finished":
            gate.usage.finish(standings.ledger.read(fit_id))
        monitor.step()

    for fit_id, error in lanes.run_all(lost, count_epochs, is_over).items():
        logger.warning("fit %s could not be trained again: %s", fit_id, error)
    standings.look_again()


def _derived(store: StudyStore) -> list[tuple[Path, Callable[[], Any]]]:
    """Files that a search can make again from other files, with the function that reads each."""
    folder = store.folder
    return [
        (store.champion_file, store.champion),
        (folder / "rescored.json", lambda: read_rescoring(store)),
        (folder / "nested.json", lambda: nested_of(store)),
        (folder / "splits-again.json", lambda: parse_json(folder / "splits-again.json", dict[str, Any])),
        (store.speeds_file, lambda: read_speeds(store.speeds_file)),
        (store.status_file, lambda: parse_json(store.status_file, dict[str, Any])),
    ]


def _set_aside_unread(store: StudyStore, file: Path, read: Callable[[], Any]) -> None:
    if not file.exists():
        return
    try:
        read()
    except (BadStudy, BadSplit, Unreadable) as error:
        logger.warning("%s; it is kept as %s, and made again", error, store.ledger.set_aside(file))


def _restore_verdicts(store: StudyStore) -> None:
    good, bad = split_verdicts(store.race_file)
    if bad:
        kept = store.ledger.set_aside(store.race_file)
        write_atomically(store.race_file, "".join(f"{line}\n" for line in good).encode())
        logger.warning(
            "%s: %s cannot be read; it is kept as %s", store.race_file, counted(len(bad), "line"), kept
        )


def _restore_journal(store: StudyStore) -> None:
    now = store.snapshot()
    why = now.journal_damage
    if why is None:
        return
    try:
        trials = now.trials_on_record()
    except (
        BadStudy
    ):  # nothing knows of them; what the search asks follows from its seed, and its fits are on record
        trials = []
    kept = store.ledger.set_aside(store.journal_file) if store.journal_file.exists() else None
    directions, end = store.secondary().directions, store.ledger.trials.end()
    write_journal(store.journal_file, store.name, directions, trials, end)
    store.name_values(store.optuna_study())
    logger.warning(
        "%s %s: %d trials are restored from what is on record%s",
        store.journal_file,
        why,
        len(trials),
        f"; it is kept as {kept}" if kept is not None else "",
    )
