"""Lanes on a simulated clock: the backend of the engine that trains nothing. Time passes epoch by epoch."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from orchestrator.search.engine import Engine, Idle, Visit


class Fits(Protocol):
    """Interface of simulated fits: their scores, epoch by epoch, and their time."""

    def curve(self, number: int, fold: int) -> Sequence[float] | None:
        """Validation Dice of a fit, epoch by epoch; the fit has begun. None: it fails at once."""

    def seconds(self, number: int, fold: int) -> float:
        """Seconds that this fit takes, once begun; may be random."""

    def finish(self, number: int, fold: int) -> None:
        """Store a finished fit for the state of the engine."""

    def abandon(self, number: int, fold: int) -> None:
        """Record a fit that was stopped before its end."""


class SimulatedLanes:
    """Carries out the visits of an engine, as many fits at a time as there are lanes, in the order of the visits."""

    def __init__(self, engine: Engine[Any, Any], fits: Fits, num_lanes: int = 1) -> None:
        self.engine, self.fits, self.num_lanes = engine, fits, num_lanes
        self.clock = 0.0  # seconds
        self.busy = 0.0  # seconds that lanes have trained, together
        self.num_fits = 0  # that have ended, abandoned ones included
        self.num_epochs = 0
        self.visits: list[Visit] = []  # in the order in which they were asked for
        self.num_ended = 0  # of these
        # Of every fit that is trained: when its epoch ends, trial, fold, which epoch from 1, seconds of each epoch.
        self.running: list[tuple[float, int, int, int, float]] = []
        self.queue: deque[tuple[int, int]] = deque()  # fits without a lane: trial, fold
        self.curves: dict[tuple[int, int], Sequence[float]] = {}

    @property
    def num_in_flight(self) -> int:
        """Fits that are trained or queued."""
        return len(self.running) + len(self.queue)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Carry out visits until the engine has no more; or until a condition holds with all lanes filled."""
        while True:
            while len(self.running) < self.num_lanes and (self.queue or (not until() and self._ask())):
                self._begin(*self.queue.popleft())
            if until() or not self.running:
                return
            self._step()
            while self.engine.next and not until() and self._ask():  # a trial that goes on is queued at once
                pass

    def repeat(self, fits: Iterable[tuple[int, int]]) -> None:
        """Train these fits once more on all lanes, after all others; the clock advances."""
        free = [self.clock] * self.num_lanes
        for number, fold in fits:
            seconds = self.fits.seconds(number, fold)
            heapq.heapreplace(free, free[0] + seconds)
            self.num_fits, self.busy = self.num_fits + 1, self.busy + seconds
        self.clock = max(free)

    def _ask(self) -> bool:
        """Queue the next visit; False: the engine has none now."""
        visit = self.engine.ask()
        if isinstance(visit, Idle):
            return False
        self.visits.append(visit)
        self.queue.extend((visit.number, fold) for fold in visit.folds)
        return True

    def _begin(self, number: int, fold: int) -> None:
        curve = self.fits.curve(number, fold)
        if curve is None:
            self._leave(number)
            self.engine.fail(number)
            return
        self.curves[number, fold] = curve
        seconds = self.fits.seconds(number, fold) / len(curve)
        heapq.heappush(self.running, (self.clock + seconds, number, fold, 1, seconds))

    def _step(self) -> None:
        """Advance to the next end of an epoch: its fit goes on, is stopped, or is finished."""
        self.clock, number, fold, epoch, seconds = heapq.heappop(self.running)
        self.num_epochs, self.busy = self.num_epochs + 1, self.busy + seconds
        curve = self.curves[number, fold]
        if epoch == len(curve):
            self._finish(number, fold)
        elif self.engine.epoch(number, fold, epoch - 1, float(curve[epoch - 1])) is None:
            heapq.heappush(self.running, (self.clock + seconds, number, fold, epoch + 1, seconds))
        else:
            self._abandon(number, fold)
            self._end(number)

    def _finish(self, number: int, fold: int) -> None:
        self.num_fits += 1
        self.fits.finish(number, fold)
        verdict = self.engine.finish(number, fold)
        in_flight = {trial for _, trial, *_ in self.running} | {trial for trial, _ in self.queue}
        if verdict.action == "stop" or number not in in_flight:
            self._end(number)

    def _end(self, number: int) -> None:
        """End a visit, and abandon its fits in flight."""
        self._leave(number)
        self.engine.end(number)

    def _leave(self, number: int) -> None:
        """Abandon the fits of a trial that run, and forget those that wait."""
        for _, trial, fold, *_ in self.running:
            if trial == number:
                self._abandon(number, fold)
        self.running = [one for one in self.running if one[1] != number]
        heapq.heapify(self.running)
        self.queue = deque(one for one in self.queue if one[0] != number)
        self.num_ended += 1

    def _abandon(self, number: int, fold: int) -> None:
        self.num_fits += 1
        self.fits.abandon(number, fold)
