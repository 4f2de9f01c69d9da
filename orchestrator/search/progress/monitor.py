"""Monitors a running study: writes its status file and passes the status on, about once per second.

The search loop reports changes and renders the status from memory, at most once per second. A separate thread writes
it with a fresh heartbeat, so that a busy loop does not look dead. Errors are logged once; the search continues.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial

from orchestrator.common.faults import machine_fault
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.engine import Engine
from orchestrator.search.optuna_trials import OptunaTrials
from orchestrator.search.progress.time_left import Ahead, Pace, fits_a_configuration, forecast
from orchestrator.search.progress.trial_views import BestSoFar, trial_views
from orchestrator.search.race.state import RaceState
from orchestrator.search.records.status import (
    FoldView,
    LaneCount,
    Named,
    State,
    Status,
    TrialState,
    write_status,
)
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import STATES, StudyTrial

logger = logging.getLogger(__name__)
PERIOD_S = 1.0
# Share of the search's time that rendering may take: with very many trials the status is rendered less often.
SHARE = 0.05
MOST_SHOWN = 300  # trials in the status file: it is written every second


class ProgressMonitor:
    """Context manager around a running study. `show` is called from a separate thread."""

    def __init__(
        self, store: StudyStore, gate: BudgetGate, rule: str, show: Callable[[Status], None]
    ) -> None:
        self.store, self.gate, self.show = store, gate, show
        self.count: Callable[[], LaneCount] | None = None
        self.counting = threading.Lock()
        self.lanes = LaneCount()
        self.engine: Engine[RaceState, OptunaTrials] | None = None
        self.ended: dict[int, TrialState] = {}
        self.params: dict[int, dict[str, Any]] = {}
        self.in_flight: dict[int, dict[int, FoldView]] = {}  # trial -> fold
        self.speeds: dict[tuple[int, int], float] = {}  # images per second of each fit in flight
        now = time.time()
        self.latest = Status(
            store.name, "starting", rule, str(gate.budget), now, now, os.getpid(), socket.gethostname()
        )
        self.drawn = 0.0  # time of the last rendering
        self.seconds_a_draw = 0.0  # duration of the last rendering
        self.trouble: str | None = None
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> ProgressMonitor:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.closing.set()
        self.thread.join()
        self.draw()
        is_asked = kind is not None and issubclass(kind, KeyboardInterrupt)
        over: State = "ended" if kind is None else "interrupted" if is_asked else "failed"
        self.latest = replace(self.latest, state=over)
        self._guarded(self._beat)

    @contextmanager
    def counting_lanes(self, count_lanes: Callable[[], LaneCount]) -> Iterator[None]:
        """Count lanes from the separate thread while the context is open."""
        self.count = count_lanes
        try:
            yield
        finally:
            with self.counting:
                self.count, self.lanes = None, LaneCount()

    def follow(self, engine: Engine[RaceState, OptunaTrials], trials: Iterable[FrozenTrial]) -> None:
        """Monitor the trials of an engine; `trials`: those of earlier runs."""
        self.engine, self.best = engine, BestSoFar(engine.state)
        for trial in trials:
            self.params[trial.number] = engine.state.space.shown(trial.params)
            if trial.state.is_finished():
                self.ended[trial.number] = STATES[trial.state]  # type: ignore[assignment]  # the words are the same

    def now(self, state: State) -> None:
        """Set the state of the study."""
        self.latest = replace(self.latest, state=state)
        self.draw()

    def finish(self) -> None:
        """Record at once that the study has ended, for code that reads the status next."""
        self.now("ended")
        with self.counting:
            self._guarded(lambda: write_status(self.store.status_file, self.latest))

    def name(self, champion: Named | None) -> None:
        """Set the champion."""
        self.latest = replace(self.latest, champion=champion)

    def choose_width(self, workers_per_fit: int, why: str) -> None:
        """Set the number of workers per fit, and the reason for it."""
        self.latest = replace(self.latest, workers_per_fit=workers_per_fit, workers_per_fit_why=why)

    def visit(self, number: int, params: Mapping[str, Any], folds: Iterable[int]) -> None:
        """Folds of a trial were queued."""
        if self.engine is not None:
            space = self.engine.state.space
            self.params[number] = space.shown(space.stored(params))
        self.in_flight[number] = {fold: FoldView("queued") for fold in folds}

    def epochs_reported(
        self, number: int, fold: int, rows: list[dict[str, float]], epochs: int, done: bool
    ) -> None:
        """Epochs of a fold were reported."""
        in_flight = self.in_flight.setdefault(number, {})
        if done:
            in_flight.pop(fold, None)
            self.speeds.pop((number, fold), None)
        elif rows:
            row = rows[-1]
            in_flight[fold] = FoldView("running", int(row["epoch"]) + 1, epochs, val_dice=row["val_dice"])
            self.speeds[number, fold] = row.get("images_per_second", 0.0)

    def leave(self, number: int) -> None:
        """A trial has no fold in flight any more."""
        for fold in self.in_flight.pop(number, {}):
            self.speeds.pop((number, fold), None)

    def trial_ended(self, trial: StudyTrial) -> None:
        """A trial is over."""
        self.ended[trial.number] = trial.state  # type: ignore[assignment]  # the words are the same

    def step(self) -> None:
        """Render if it is time to; called from the search loop."""
        if time.monotonic() - self.drawn >= max(PERIOD_S, self.seconds_a_draw / SHARE):
            self.draw()

    def draw(self) -> None:
        """Render the status from memory."""
        started = time.monotonic()
        self._guarded(self._draw)
        self.drawn = time.monotonic()
        self.seconds_a_draw = self.drawn - started

    def _draw(self) -> None:
        if self.engine is None:
            return
        usage, end = self.gate.usage, self.gate.end
        spent = usage.spent()
        standings = self.engine.state
        trials, others = trial_views(standings, self.ended, self.params, self.in_flight, MOST_SHOWN)
        self.latest = replace(
            self.latest,
            state=self._state(),
            trials=trials,
            others=others,
            best=self.best(),
            objective=standings.objective.label(),
            front=standings.front(),
            fits_done=usage.num_finished,
            epochs_done=int(spent.epochs),
            gpu_hours=spent.gpu_hours,
            gpus_per_lane=usage.gpus_per_lane,
            epochs_per_second=usage.epochs_per_second(),
            images_per_second=sum(self.speeds.values()) or None,
            left=forecast(self.gate.budget, spent, self._ahead(), self._pace()),
            end=end.why if end is not None else None,
            ended_by=end.by if end is not None else None,
            unfinished={fit_id: tuple(cost) for fit_id, cost in usage.unfinished().items()},
        )

    def _state(self) -> State:
        if self.latest.state not in ("searching", "finishing"):
            return self.latest.state
        return "searching" if self.gate.end is None else "finishing"

    def _ahead(self) -> Ahead:
        assert self.engine is not None
        standings, budget = self.engine.state, self.gate.budget
        num_folds, num_begun = len(standings.plan.folds), len({*standings.configurations, *self.ended})
        folds = [len(standings.seen.get(number, ())) for number in standings.configurations if number]
        finals = {
            number: num_folds - len(standings.seen.get(number, ())) - len(self.in_flight.get(number, ()))
            for number in self.engine.finalists(self.in_flight)
        }
        new = None if budget.trials is None else max(0, budget.trials - num_begun)
        return Ahead(
            new=0 if self.gate.end is not None else new,
            fits_a_configuration=fits_a_configuration(
                [count for count in folds if count], num_folds, not self.engine.trains_all_folds
            ),
            in_flight=sum(
                1 - view.epoch / (view.epochs or 1)
                for views in self.in_flight.values()
                for view in views.values()
            ),
            finals=sum(finals.values()) + self.gate.reserved,
        )

    def _pace(self) -> Pace:
        usage = self.gate.usage
        busy = max(1, self.lanes.busy)
        return Pace(usage.per_fit(), usage.epochs_per_second(), busy * (usage.gpus_per_lane or 1))

    def _run(self) -> None:
        while not self.closing.wait(PERIOD_S):
            self._guarded(self._beat)

    def _beat(self) -> None:
        with self.counting:
            if self.count is not None:
                self.lanes = self.count()
            status = replace(self.latest, lanes=self.lanes, heartbeat=time.time())
            write_status(self.store.status_file, status)
        self.show(status)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Call `act`; an error is logged once and does not end the search."""
        try:
            act()
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
            if trouble != self.trouble:
                is_bug = machine_fault(error) is None
                logger.warning(
                    "the status of this study cannot be saved for now: %s", trouble, exc_info=is_bug
                )
            self.trouble = trouble
