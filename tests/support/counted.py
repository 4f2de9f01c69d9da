"""The command line, with fits that leave a line in `epochs.log` of their ledger for every epoch that they begin."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.score_job import ScoreJob
from orchestrator.training.batches import TrainingBatches
from orchestrator.training.recipe import FitSpec

LOG = "epochs.log"
EPOCH_S = float(os.environ.get("COUNTED_EPOCH_S", "0.2"))  # at least: a moment to be killed at


@dataclass(frozen=True)
class CountedWork(FitJobRunner):
    """Does what `FitJobRunner` does, and counts."""

    def __call__(
        self,
        job: FitSpec | ScoreJob,
        device: torch.device,
        loader_workers: int,
        report: Callable[[dict[str, float]], bool],
    ) -> bool:
        torch.set_num_threads(1)  # images this small are slower on many cores
        if isinstance(job, ScoreJob):
            return super().__call__(job, device, loader_workers, report)
        train = TrainingBatches.epoch

        def epoch(batches: TrainingBatches, number: int) -> Iterator[Any]:
            time.sleep(EPOCH_S)
            _note(self.ledger, f"{job.fit_id} {number} {os.getpid()}\n")
            yield from train(batches, number)

        with patch.object(TrainingBatches, "epoch", epoch):
            return super().__call__(job, device, loader_workers, report)


def epochs_begun(ledger: Ledger) -> list[tuple[str, int]]:
    """(fit, epoch) of every epoch that was begun, repeats included, oldest first."""
    return [(fit_id, epoch) for fit_id, epoch, _ in epochs_of_processes(ledger)]


def epochs_of_processes(ledger: Ledger) -> list[tuple[str, int, int]]:
    """The same with the process that began each: (fit, epoch, pid)."""
    log = ledger.fits.parent / LOG
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [(fit_id, int(epoch), int(pid)) for fit_id, epoch, pid in map(str.split, lines)]


def _note(ledger: Ledger, line: str) -> None:
    """One write to the end of the file: whole, whoever else writes and whenever this process is killed."""
    ledger.fits.parent.mkdir(parents=True, exist_ok=True)
    number = os.open(ledger.fits.parent / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(number, line.encode())
    os.close(number)
