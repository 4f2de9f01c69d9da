"""Copies of a study's Optuna trials, one small file each, from which a damaged journal is rebuilt.

Each is written after the journal, so a copy that knows more than the journal shows that the journal lost something.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from pydantic import BaseModel

from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import Unreadable, parse_json
from orchestrator.search.records.status import TrialView
from orchestrator.search.space.space import SearchSpace

OF_VIEW = {"complete": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
LOST = "it was lost when the file that kept it was damaged"


class _Stored(BaseModel):
    """One trial, as JSON."""

    number: int
    state: str
    values: list[float] | None
    params: dict[str, Any]
    distributions: dict[str, str]
    user_attrs: dict[str, Any]
    system_attrs: dict[str, Any]
    intermediate_values: dict[int, float]


class TrialRecords:
    """Files of trials by number, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, trial: FrozenTrial) -> None:
        """Write a trial as it is now; a trial that is only enqueued has no number yet and is skipped."""
        if trial.state == TrialState.WAITING:
            return
        file, content = self._file(trial.number), json.dumps(_plain(trial), indent=1).encode()
        if not file.exists() or file.read_bytes() != content:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, content)

    def write_end(self, end: Mapping[str, Any] | None) -> None:
        """Write the reason why no new trial starts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "end.json", json.dumps(end).encode())

    def read(self) -> list[FrozenTrial]:
        """All trials up to the last readable one; unreadable ones between them count as failed."""
        found = {}
        for file in self.folder.glob("[0-9]*.json"):
            stat = file.stat()
            if (trial := _read(file, stat.st_size, stat.st_mtime_ns)) is not None:
                found[trial.number] = trial
        return [found.get(number) or lost(number) for number in range(max(found, default=-1) + 1)]

    def end(self) -> dict[str, Any] | None:
        """The reason why no new trial starts, or None."""
        try:
            result: dict[str, Any] | None = parse_json(self.folder / "end.json", dict[str, Any] | None)
            return result
        except (Unreadable, FileNotFoundError):
            return None

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.json"


@lru_cache(maxsize=10_000)
def _read(file: Path, num_bytes: int, mtime_ns: int) -> FrozenTrial | None:
    """A trial from its file, cached by size and time of the file; None if it is damaged."""
    try:
        return _trial(parse_json(file, _Stored))
    except Unreadable:
        return None


def lost(number: int) -> FrozenTrial:
    """A failed trial of which only the number is known."""
    return _trial(
        _Stored(
            number=number,
            state="FAIL",
            values=None,
            params={},
            distributions={},
            user_attrs={"error": LOST},
            system_attrs={},
            intermediate_values={},
        )
    )


def of_status(views: Iterable[TrialView], space: SearchSpace, num_objectives: int) -> list[FrozenTrial]:
    """Trials from a status file, the only copy that studies of earlier versions have.

    A complete trial with several objectives comes back open, and is scored again from its records.
    """
    found = {}
    for view in views:
        params = space.stored(view.params)
        fixed = FixedTrial(params)
        if space.drawn(params) is None:
            continue
        space.sample(fixed)
        state = OF_VIEW.get(view.state, "RUNNING")
        if state == "COMPLETE" and (view.dice is None or num_objectives > 1):
            state = "RUNNING"
        stored = _Stored(
            number=view.number,
            state=state,
            values=[view.dice] if state == "COMPLETE" and view.dice is not None else None,
            params=params,
            distributions={name: distribution_to_json(one) for name, one in fixed.distributions.items()},
            user_attrs={"stopped": view.said} if state == "PRUNED" else {},
            system_attrs={},
            intermediate_values={},
        )
        found[view.number] = _trial(stored)
    return [found.get(number) or lost(number) for number in range(max(found, default=-1) + 1)]


def _plain(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "distributions": {name: distribution_to_json(one) for name, one in trial.distributions.items()},
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
        "intermediate_values": trial.intermediate_values,
    }


def _trial(stored: _Stored) -> FrozenTrial:
    try:
        state = TrialState[stored.state]
        distributions = {name: json_to_distribution(one) for name, one in stored.distributions.items()}
    except (KeyError, ValueError, TypeError) as error:
        raise Unreadable(f"does not hold what was written: {error}") from error
    now = datetime.now(UTC)
    return FrozenTrial(
        number=stored.number,
        trial_id=stored.number,
        state=state,
        value=None,
        values=stored.values,
        datetime_start=now,
        datetime_complete=now if state.is_finished() else None,
        params=stored.params,
        distributions=distributions,
        user_attrs=stored.user_attrs,
        system_attrs=stored.system_attrs,
        intermediate_values=stored.intermediate_values,
    )
