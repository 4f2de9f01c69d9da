"""Status of a study in one small file, written about once per second while it runs, readable from any machine.

The file is replaced atomically. A killed study is recognised by its heartbeat, which stops; because clocks of two
machines may differ, a reader that finds an old heartbeat reads again after a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import adapter
from orchestrator.search.records.partial_score import PartialScore

# Seconds without a heartbeat after which a study may be dead, and for how long it is then observed.
STALE_S, LOOK_AGAIN_S = 15.0, 3.0
FoldState = Literal["done", "running", "queued", "cut", "none"]
TrialState = Literal["running", "waiting", "open", "complete", "stopped", "failed"]
State = Literal[
    "starting",
    "timing",
    "searching",
    "finishing",
    "rescoring",
    "scoring",
    "ended",
    "interrupted",
    "failed",
    "killed",
]
OVER: tuple[State, ...] = ("ended", "interrupted", "failed", "killed")


@dataclass(frozen=True)
class FoldView:
    """One fold of a trial."""

    state: FoldState = "none"
    epoch: int = 0  # finished epochs
    epochs: int | None = None  # of the schedule
    dice: float | None = None  # of a finished fold, at the trial's threshold
    val_dice: float | None = None  # in flight: last epoch, at its best threshold


@dataclass(frozen=True)
class TrialView:
    """One trial, fold by fold."""

    number: int
    state: TrialState  # waiting: paused by the race; open: no process works on it
    dice: float | None  # mean over all folds; None while it lacks some
    folds: tuple[FoldView, ...]
    params: dict[str, Any]  # the searched ones
    said: str | None  # reason of the last verdict
    objective: float | None = None  # of all folds: what trials are ranked by
    partial: PartialScore | None = None  # what a trial without all its folds has shown
    estimate: float | None = None  # the score that the race assumes; imputed where folds are missing

    @property
    def num_done(self) -> int:
        return sum(fold.state == "done" for fold in self.folds)


@dataclass(frozen=True)
class Best:
    """The configuration that the others are compared with."""

    number: int
    dice: float  # of the study's objective
    interval: tuple[float, float] | None  # 95 % of `cross_fitted`, drawing whole groups of images
    num_folds: int  # that it rests on
    cross_fitted: float | None = None  # Dice where no fold had a say in its own threshold; None of one fold


@dataclass(frozen=True)
class Named:
    """The champion, with its Dice over all folds."""

    number: int
    dice: float  # what the search ranked it by
    fresh: float | None = None  # in the re-evaluation alone; None where there was none


@dataclass(frozen=True)
class LaneCount:
    """Numbers of lanes: the cluster has room for, up, busy with a fit; and of fits that wait for a lane."""

    room: int = 0
    up: int = 0
    busy: int = 0
    queued: int = 0
    crowded: bool = False  # none is up, for others hold what the cluster has


@dataclass(frozen=True)
class Left:
    """Estimate of the remaining fits and of the remaining time of a search."""

    seconds: float | None = None
    fits: float | None = None
    how: str = "nothing is known before the first fit is finished"


@dataclass(frozen=True)
class Status:
    """A study at one moment. Times are seconds since 1970."""

    study: str
    state: State
    race: str
    budget: str
    started: float  # this run
    heartbeat: float
    pid: int
    host: str
    trials: tuple[
        TrialView, ...
    ] = ()  # best first; of a running study those in flight and the best, see `others`
    others: dict[TrialState, int] = field(default_factory=dict)  # trials that are not among these
    best: Best | None = None
    champion: Named | None = None
    objective: str = "dice"  # what `Best.dice` and `Named.dice` are
    front: tuple[int, ...] = ()  # of several objectives: trials that none is better than in all of them
    lanes: LaneCount = LaneCount()
    fits_done: int = 0
    epochs_done: int = 0
    gpu_hours: float = 0.0  # hours of lanes where those hold no GPU
    gpus_per_lane: float = 0.0
    epochs_per_second: float | None = None
    images_per_second: float | None = None
    left: Left = Left()
    end: str | None = None  # why no new trial is begun
    ended_by: str | None = None  # the limit, or other cause, of that: `End.by`
    workers_per_fit: int | None = None  # where they were chosen by forecast
    workers_per_fit_why: str | None = None
    # What fits have cost that are not on record: (epochs, seconds, workers).
    unfinished: dict[str, tuple[int, float, int]] = field(default_factory=dict)

    @property
    def num_trials(self) -> int:
        return len(self.trials) + sum(self.others.values())

    @property
    def seconds(self) -> float:
        """Seconds from the start of this run to its last heartbeat."""
        return max(0.0, self.heartbeat - self.started)


def write_status(path: Path, status: Status) -> None:
    """Replace the status file; not flushed to disk, since the next one replaces it."""
    write_atomically(path, adapter(Status).dump_json(status, exclude_defaults=True), sync=False)


def read_status(path: Path) -> Status | None:
    """The last status that was written; None where there is none that this version can read."""
    try:
        found: Status = adapter(Status).validate_json(path.read_bytes())
        return found
    except (FileNotFoundError, ValueError):
        return None


def as_json(status: Status) -> dict[str, Any]:
    result: dict[str, Any] = adapter(Status).dump_python(status, mode="json") | {"seconds": status.seconds}
    return result


def is_alive(
    path: Path, now: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Whether a process works on the study: its heartbeat is recent, or changes while this function waits."""
    status = read_status(path)
    if status is None or status.state in OVER:
        return False
    if abs(now() - status.heartbeat) < STALE_S:
        return True
    sleep(LOOK_AGAIN_S)
    again = read_status(path)
    return again is not None and again.heartbeat != status.heartbeat
