"""Optuna's journal of a study: whether it is whole, and how it is rebuilt from the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from orchestrator.common.files import partial_of
from orchestrator.common.stored_json import Unreadable, parse
from orchestrator.search.store.optuna_storage import open_journal

# What Optuna raises where lines are missing between others.
TORN = (LookupError, ValueError, TypeError, AttributeError, AssertionError)
ANEW = "asked anew"  # a mark of the study
OVER = (TrialState.COMPLETE, TrialState.PRUNED)  # for good: what failed may be tried again


@dataclass(frozen=True)
class Journal:
    """Trials of a study in its Optuna journal, and the damage of the file, if any."""

    trials: list[FrozenTrial]  # of the study of that name; none where there is no such study
    damage: str | None  # the lines that do not read, or what it lacks that is on record


def read_journal(path: Path, name: str, on_record: Sequence[FrozenTrial], num_fits: int) -> Journal:
    """The journal of a study of which these trials and so many fits are on record; the file is opened once."""
    if not path.exists() or path.stat().st_size == 0:
        what = "is empty" if path.exists() else "is gone"
        is_lost = on_record or num_fits
        return Journal([], f"{what}, and {num_fits} fits are on record" if is_lost else None)
    try:
        study = _load(JournalStorage(_InMemory(_entries(path.read_bytes()))), name)
        trials = study.get_trials(deepcopy=False) if study is not None else []
    except Unreadable as error:
        return Journal([], str(error))
    except TORN as error:
        return Journal([], f"lacks lines: {type(error).__name__}: {error}")
    if not trials and num_fits and (study is None or ANEW not in study.user_attrs):
        return Journal(trials, f"holds no trial, and {num_fits} fits are on record")
    behind = [trial.number for trial in on_record if _is_behind(trials, trial)]
    return Journal(trials, f"lacks what is on record of {len(behind)} trials" if behind else None)


def _load(storage: JournalStorage, name: str) -> optuna.Study | None:
    try:
        return optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        return None


class _InMemory(BaseJournalBackend):
    """Read-only journal backend for Optuna with the entries of a journal that was read already."""

    def __init__(self, entries: Sequence[dict[str, Any]]) -> None:
        self.entries = entries

    def read_logs(self, log_number_from: int) -> Sequence[dict[str, Any]]:
        return self.entries[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise NotImplementedError("a journal that is read is not written to")


def write_journal(
    path: Path,
    name: str,
    directions: Sequence[Literal["minimize", "maximize"]],
    trials: Sequence[FrozenTrial],
    end: Mapping[str, Any] | None,
) -> None:
    """Write a journal with these trials and the reason why no new one is begun, whole or not at all.

    An empty one has a mark that trials are asked for again, so that it does not contradict fits on record.
    """
    partial = partial_of(path)
    partial.unlink(missing_ok=True)
    study = optuna.create_study(storage=open_journal(partial), study_name=name, directions=directions)
    study.add_trials(trials)
    if not trials:
        study.set_user_attr(ANEW, True)
    if end is not None:
        study.set_user_attr("end", dict(end))
    partial.replace(path)


def _entries(content: bytes) -> list[dict[str, Any]]:
    """Entries of a journal, a dictionary a line. Raises `Unreadable`."""
    entries = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        is_last = number == len(lines)
        if is_last and b"\0" not in line:  # half-written by a kill: Optuna leaves it out
            continue
        try:
            entry = parse(line.decode(), dict[str, Any])
        except UnicodeDecodeError:
            raise Unreadable(f"line {number} is not text") from None
        except Unreadable as error:
            raise Unreadable(f"line {number} {error}") from error
        if not {"op_code", "worker_id"} <= entry.keys():
            raise Unreadable(f"line {number} is none of Optuna's")
        entries.append(entry)
    return entries


def _is_behind(trials: Sequence[FrozenTrial], recorded: FrozenTrial) -> bool:
    if recorded.number >= len(trials):
        return True
    return recorded.state in OVER and not trials[recorded.number].state.is_finished()
