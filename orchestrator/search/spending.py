"""What a study has spent on training: from the records of its fits, and from the epochs in flight."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.search.budget import Cost, FitCost
from orchestrator.search.ledger import FitRecord, Ledger

# The pace is that of so many last seconds.
PACE_S = 600.0


@dataclass
class Training:
    """What one fit has cost so far."""

    epochs: int = 0
    seconds: float = 0.0  # of its lane
    workers: int = 1
    finished: bool = False


class Spending:
    """Counts epochs and lane time over all runs of a study; wall time of this one.

    Fits that were cut or failed left no record: what they cost is known while this lives, and afterwards to whoever
    kept `unfinished`.
    """

    def __init__(
        self,
        ledger: Ledger,
        unfinished: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock, self.started = clock, clock()
        self.gpus_per_worker, self.workers_per_lane = 0.0, 1
        self.fits = {fit_id: Training(*cost) for fit_id, cost in (unfinished or {}).items()}
        self.fits |= dict(_on_record(ledger))
        self.ticks: deque[tuple[float, int]] = deque()  # when epochs came in, and how many

    @property
    def gpus_per_lane(self) -> float:
        return self.gpus_per_worker * self.workers_per_lane

    def lane(self, gpus_per_worker: float, workers: int) -> None:
        """Say what a lane holds from now on."""
        self.gpus_per_worker, self.workers_per_lane = gpus_per_worker, workers

    def hear(self, fit_id: str, rows: Iterable[Mapping[str, float]]) -> None:
        """Count epochs of a fit in flight. Those before a restart may be told again."""
        fit = self.fits.setdefault(fit_id, Training(workers=self.workers_per_lane))
        new = [row for row in rows if row["epoch"] >= fit.epochs]
        if new:
            fit.epochs = int(max(row["epoch"] for row in new)) + 1
            fit.seconds += sum(row.get("seconds", 0.0) for row in new)
            self.ticks.append((self.clock(), len(new)))

    def finish(self, record: FitRecord) -> None:
        """Count a finished fit by its record: it knows what earlier runs spent on it."""
        self.fits[record.fit_id] = Training(len(record.curves), record.seconds, record.world_size, True)

    @property
    def hours(self) -> float:
        """Wall time of this run."""
        return (self.clock() - self.started) / 3600

    def spent(self) -> Cost:
        fits = list(self.fits.values())
        gpu_seconds = sum(fit.seconds * (self.gpus_per_worker * fit.workers or 1) for fit in fits)
        return Cost(self.hours, gpu_seconds / 3600, sum(fit.epochs for fit in fits))

    def per_fit(self) -> FitCost | None:
        """What a finished fit cost on average; None before there is one."""
        done = [fit for fit in self.fits.values() if fit.finished]
        if not done:
            return None
        return FitCost(
            sum(fit.seconds for fit in done) / len(done), sum(fit.epochs for fit in done) / len(done)
        )

    def left_of(self, fit_ids: Iterable[str]) -> float:
        """How much there is to train of these fits, in fits: those that were begun need less."""
        usual, ids = self.per_fit(), list(fit_ids)
        if usual is None:
            return len(ids)
        begun = (self.fits[fit_id].epochs if fit_id in self.fits else 0 for fit_id in ids)
        return sum(max(0.0, 1 - epochs / usual.epochs) for epochs in begun)

    def epochs_per_second(self) -> float | None:
        """Pace of the last minutes, since the first epoch came in; None before the second one did."""
        now = self.clock()
        while self.ticks and self.ticks[0][0] < now - PACE_S:
            self.ticks.popleft()
        if len(self.ticks) < 2 or now <= self.ticks[0][0]:
            return None
        return sum(count for _, count in list(self.ticks)[1:]) / (now - self.ticks[0][0])

    def unfinished(self) -> dict[str, Any]:
        """What fits that are not on record have cost, as plain JSON: they may never be."""
        return {
            fit_id: [fit.epochs, round(fit.seconds, 3), fit.workers]
            for fit_id, fit in self.fits.items()
            if not fit.finished
        }


def _on_record(ledger: Ledger) -> Iterable[tuple[str, Training]]:
    """Fits of the search; a refit validates nothing and is no part of it."""
    for stored in ledger.stored():
        if stored.case_ids:
            yield stored.fit_id, Training(len(stored.curves), stored.seconds, stored.world_size, True)
