"""Training cost of a study so far, from the records of finished fits and the epochs of fits in flight."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from orchestrator.search.budget.limits import FitCost, Resources
from orchestrator.search.records.fit_records import FitRecord, FitSummary

# Window of the pace, in seconds.
PACE_S = 600.0


@dataclass(frozen=True)
class Training:
    """Cost of one fit so far."""

    epochs: int = 0
    seconds: float = 0.0  # of lane time
    workers: int = 1
    finished: bool = False


class FinishedFits(Protocol):
    """The finished fits of a study: a ledger, or a snapshot of one."""

    def summaries(self) -> Iterable[FitSummary]:
        """Summaries of the fits whose record reads."""


class ResourceUsage:
    """Epochs and lane time over all runs of a study, and wall time of this run.

    Fits that were cut or failed leave no record; their cost survives a restart through `unfinished` alone, which
    the status file keeps.
    """

    def __init__(
        self,
        ledger: FinishedFits | None,
        unfinished: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock, self.started = clock, clock()
        self.gpus_per_worker, self.workers_per_lane = 0.0, 1
        self.fits: dict[str, Training] = {}
        self.open: dict[str, Training] = {}  # fits without a record
        # Running sums over all fits.
        # How long a fit takes by what is known of its trial and its network; None: as long as the mean.
        self.seconds_of_fit: Callable[[str], float | None] = lambda fit_id: None
        self.num_finished, self.finished_seconds, self.finished_epochs, self.epochs = 0, 0.0, 0, 0
        self.seconds_of: dict[int, float] = {}
        for fit_id, cost in (unfinished or {}).items():
            self._count(fit_id, Training(*cost))
        for fit_id, training in _on_record(ledger) if ledger is not None else ():
            self._count(fit_id, training)
        self.ticks: deque[tuple[float, int]] = deque()  # (time, number of epochs reported)

    @property
    def gpus_per_lane(self) -> float:
        return self.gpus_per_worker * self.workers_per_lane

    def lane(self, gpus_per_worker: float, workers: int) -> None:
        """Set the GPUs per worker and the workers per lane from now on."""
        self.gpus_per_worker, self.workers_per_lane = gpus_per_worker, workers

    def add_epochs(self, fit_id: str, rows: Iterable[Mapping[str, float]]) -> None:
        """Count epochs of a fit in flight; epochs that are reported again after a restart count once."""
        fit = self.fits.get(fit_id) or Training(workers=self.workers_per_lane)
        new = [row for row in rows if row["epoch"] >= fit.epochs]
        epochs = int(max((row["epoch"] for row in new), default=fit.epochs - 1)) + 1
        more = sum(row.get("seconds", 0.0) for row in new)
        self._count(fit_id, replace(fit, epochs=epochs, seconds=fit.seconds + more))
        if new:
            self.ticks.append((self.clock(), len(new)))

    def finish(self, record: FitRecord) -> None:
        """Count a finished fit by its record, which includes earlier runs."""
        self._count(record.fit_id, Training(len(record.curves), record.seconds, record.world_size, True))

    def _count(self, fit_id: str, training: Training) -> None:
        """Replace the epochs and lane time that were counted for a fit."""
        before, self.fits[fit_id] = self.fits.get(fit_id), training
        self.open.pop(fit_id, None)
        if not training.finished:
            self.open[fit_id] = training
        for fit, sign in ((before, -1), (training, 1)):
            if fit is None:
                continue
            self.epochs += sign * fit.epochs
            self.seconds_of[fit.workers] = self.seconds_of.get(fit.workers, 0.0) + sign * fit.seconds
            if fit.finished:
                self.num_finished += sign
                self.finished_seconds += sign * fit.seconds
                self.finished_epochs += sign * fit.epochs

    @property
    def hours(self) -> float:
        """Wall time of this run."""
        return (self.clock() - self.started) / 3600

    def spent(self) -> Resources:
        by_workers = self.seconds_of.items()
        gpu_seconds = sum(seconds * (self.gpus_per_worker * workers or 1) for workers, seconds in by_workers)
        return Resources(self.hours, gpu_seconds / 3600, self.epochs)

    def per_fit(self) -> FitCost | None:
        """Mean cost of finished fits; None before the first."""
        if not self.num_finished:
            return None
        return FitCost(self.finished_seconds / self.num_finished, self.finished_epochs / self.num_finished)

    def left_of(self, fit_ids: Iterable[str]) -> float:
        """Remaining work of these fits, in units of a mean fit: fits in flight count by their remaining epochs."""
        usual, ids = self.per_fit(), list(fit_ids)
        if usual is None:
            return len(ids)
        begun = (self.fits[fit_id].epochs if fit_id in self.fits else 0 for fit_id in ids)
        lengths = (self._length(fit_id, usual) for fit_id in ids)
        return sum(
            length * max(0.0, 1 - epochs / usual.epochs)
            for length, epochs in zip(lengths, begun, strict=True)
        )

    def _length(self, fit_id: str, usual: FitCost) -> float:
        """How long a fit takes, in units of a mean fit."""
        seconds = self.seconds_of_fit(fit_id)
        return 1.0 if seconds is None or not usual.lane_seconds else seconds / usual.lane_seconds

    def epochs_per_second(self) -> float | None:
        """Epochs per second over the last minutes; None before the second epoch is reported."""
        now = self.clock()
        while self.ticks and self.ticks[0][0] < now - PACE_S:
            self.ticks.popleft()
        if len(self.ticks) < 2 or now <= self.ticks[0][0]:
            return None
        return sum(count for _, count in list(self.ticks)[1:]) / (now - self.ticks[0][0])

    def unfinished(self) -> dict[str, Any]:
        """Cost of fits without a record, as JSON."""
        return {fit_id: [fit.epochs, round(fit.seconds, 3), fit.workers] for fit_id, fit in self.open.items()}


def _on_record(ledger: FinishedFits) -> Iterable[tuple[str, Training]]:
    """(fit id, cost) of the finished fits of the search. A refit validates nothing and does not count."""
    for fit in ledger.summaries():
        if fit.is_validated:
            yield fit.fit_id, Training(fit.epochs, fit.seconds, fit.world_size, True)
