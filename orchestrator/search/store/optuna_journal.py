"""Optuna's journal of a study: whether it is whole, and how it is written anew from what is on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.common.files import partial_of
from orchestrator.common.stored_json import Unreadable, parse
from orchestrator.search.store.optuna_storage import open_journal

# What Optuna raises where lines are missing between others.
TORN = (LookupError, ValueError, TypeError, AttributeError, AssertionError)
ANEW = "asked anew"  # a mark of the study
OVER = (TrialState.COMPLETE, TrialState.PRUNED)  # for good: what failed may be tried again


def journal_damage(path: Path, name: str, on_record: Sequence[FrozenTrial], num_fits: int) -> str | None:
    """Why a journal is not what was written: its lines, and what it lacks that is on record; None where it is."""
    if not path.exists() or path.stat().st_size == 0:
        what = "is empty" if path.exists() else "is gone"
        return f"{what}, beside {num_fits} fits on record" if on_record or num_fits else None
    try:
        _refuse_bad_lines(path)
        study = _load(path, name)
        trials = study.get_trials(deepcopy=False) if study is not None else []
    except Unreadable as error:
        return str(error)
    except TORN as error:
        return f"lacks lines: {type(error).__name__}: {error}"
    if not trials and num_fits and (study is None or ANEW not in study.user_attrs):
        return f"holds no trial, beside {num_fits} fits on record"
    behind = [trial.number for trial in on_record if _is_behind(trials, trial)]
    return f"lacks what is on record of {len(behind)} trials" if behind else None


def read_journal(path: Path, name: str) -> list[FrozenTrial]:
    """Every trial of the study of that name; none where there is no such study."""
    study = _load(path, name)
    return study.get_trials(deepcopy=False) if study is not None else []


def _load(path: Path, name: str) -> optuna.Study | None:
    try:
        return optuna.load_study(storage=open_journal(path), study_name=name)
    except KeyError:
        return None


def write_journal(
    path: Path,
    name: str,
    directions: Sequence[Literal["minimize", "maximize"]],
    trials: Sequence[FrozenTrial],
    end: Mapping[str, Any] | None,
) -> None:
    """A journal that holds these trials, and why no new one is begun; it appears whole.

    Of none it says that they are asked for anew, so that fits on record do not speak against it.
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


def _refuse_bad_lines(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        is_last = number == len(lines)
        if is_last and b"\0" not in line:  # half-written by a kill: Optuna leaves it out
            continue
        try:
            entry = parse(line.decode(), dict[str, Any])
        except UnicodeDecodeError:
            raise Unreadable(f"line {number} is no text") from None
        except Unreadable as error:
            raise Unreadable(f"line {number} {error}") from error
        if not {"op_code", "worker_id"} <= entry.keys():
            raise Unreadable(f"line {number} is none of Optuna's")


def _is_behind(trials: Sequence[FrozenTrial], recorded: FrozenTrial) -> bool:
    if recorded.number >= len(trials):
        return True
    return recorded.state in OVER and not trials[recorded.number].state.is_finished()
