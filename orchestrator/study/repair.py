"""Damaged files of a study (power cut, full disk, bad copy): how they are reported, and repaired by the next search.

Who reads changes nothing: `damage` says which files do not read and are left out. Who searches sets them aside, into
`ledger/damaged/`, and does again what was in them; nothing is ever deleted.
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
from orchestrator.search.forecast.width import read_speeds
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


def restore(home: StudyStore) -> None:
    """Set unreadable files aside, so that a search makes them again. Needs the lock."""
    home.repair()
    for folder, why in home.ledger.damaged(thorough=True).items():
        logger.warning("%s: %s; it is kept as %s, and made again", folder, why, home.ledger.set_aside(folder))
    _restore_verdicts(home)
    _restore_journal(home)
    for file, read in _derived(home):
        _set_aside_unread(home, file, read)


def train_lost(
    lost: Mapping[str, FitSpec],
    standings: RaceState,
    lanes: Lanes,
    gate: BudgetGate,
    is_over: Callable[[], bool],
    monitor: ProgressMonitor,
) -> None:
    """Train fits again whose records are lost; verdicts on their trials stand."""
    if not lost:
        return
    logger.warning("trained again, for records are gone: %s", counted(len(lost), "fit"))

    def count_epochs(fit_id: str, update: JobUpdate) -> None:
        gate.spending.add_epochs(fit_id, update.rows)
        if update.state == "finished":
            gate.spending.finish(standings.ledger.read(fit_id))
        monitor.step()

    for fit_id, error in lanes.run_all(lost, count_epochs, is_over).items():
        logger.warning("fit %s could not be trained again: %s", fit_id, error)
    standings.look_again()


def _derived(home: StudyStore) -> list[tuple[Path, Callable[[], Any]]]:
    """Files that a search can make again from other files, with the function that reads each."""
    folder = home.folder
    return [
        (home.champion_file, home.champion),
        (folder / "rescored.json", lambda: read_rescoring(home)),
        (folder / "nested.json", lambda: nested_of(home)),
        (folder / "splits-again.json", lambda: parse_json(folder / "splits-again.json", dict[str, Any])),
        (home.speeds_file, lambda: read_speeds(home.speeds_file)),
        (home.status_file, lambda: parse_json(home.status_file, dict[str, Any])),
    ]


def _set_aside_unread(home: StudyStore, file: Path, read: Callable[[], Any]) -> None:
    if not file.exists():
        return
    try:
        read()
    except (BadStudy, BadSplit, Unreadable) as error:
        logger.warning("%s; it is kept as %s, and made again", error, home.ledger.set_aside(file))


def _restore_verdicts(home: StudyStore) -> None:
    good, bad = split_verdicts(home.race_file)
    if bad:
        kept = home.ledger.set_aside(home.race_file)
        write_atomically(home.race_file, "".join(f"{line}\n" for line in good).encode())
        logger.warning(
            "%s: %s cannot be read; it is kept as %s", home.race_file, counted(len(bad), "line"), kept
        )


def _restore_journal(home: StudyStore) -> None:
    now = home.snapshot()
    why = now.journal_damage
    if why is None:
        return
    try:
        trials = now.trials_on_record()
    except (
        BadStudy
    ):  # nothing knows of them; what the search asks follows from its seed, and its fits are on record
        trials = []
    kept = home.ledger.set_aside(home.journal_file) if home.journal_file.exists() else None
    directions, end = home.secondary().directions, home.ledger.trials.end()
    write_journal(home.journal_file, home.name, directions, trials, end)
    home.name_values(home.optuna_study())
    logger.warning(
        "%s %s: %d trials are restored from what is on record%s",
        home.journal_file,
        why,
        len(trials),
        f"; it is kept as {kept}" if kept is not None else "",
    )
