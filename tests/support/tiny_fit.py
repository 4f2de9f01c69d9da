"""A fit that costs next to nothing, so that what is left is the cost of starting it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from formula import histograms, quality, row
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from orchestrator.search.ledger import Ledger, ScoreRecord
from orchestrator.search.work import ScoreJob
from orchestrator.training import workers
from orchestrator.training.recipe import FitSpec

EPOCHS = 2
STEPS = 5

Report = Callable[[dict[str, float]], bool]


def train() -> Iterator[dict[str, float]]:
    """Train a linear layer on all ranks; yield one row an epoch, with the seconds that this rank needed for it."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    layer = nn.Linear(8, 1)
    replica = DistributedDataParallel(layer) if workers.size() > 1 else layer
    optimizer = torch.optim.SGD(replica.parameters(), lr=0.01)
    for epoch in range(EPOCHS):
        for _ in range(STEPS):
            loss = (replica(torch.rand(4, 8)) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield {"epoch": epoch, "train_loss": loss.item(), "seconds": time.perf_counter() - began}
        began = time.perf_counter()


def perform(payload: object, device: torch.device, loader_workers: int, report: Report) -> bool:
    """The fit as a lane's job; the payload does not matter."""
    return all(report(row) for row in train())


@dataclass(frozen=True)
class TinyWork:
    """The fit as a study's work: the same training, and a record in the ledger with scores by formula."""

    ledger: Ledger

    def __call__(
        self, job: FitSpec | ScoreJob, device: torch.device, loader_workers: int, report: Report
    ) -> bool:
        if isinstance(job, ScoreJob):
            if workers.rank() == 0:
                scored = histograms(1.0, len(job.case_ids))
                self.ledger.write_scores(ScoreRecord(job.fit_id, job.name, job.case_ids, scored))
            return True
        found = quality(job.recipe.learning_rate)
        curves = [row(int(trained["epoch"]), found) | trained for trained in self._train(report)]
        if len(curves) < EPOCHS:
            return False
        if workers.rank() == 0:
            plain = {
                "curves": curves,
                "best_epoch": EPOCHS - 1,
                "seconds": sum(epoch["seconds"] for epoch in curves),
                "device": "cpu",
                "world_size": workers.size(),
                "case_ids": job.val,
                "versions": {},
            }
            self.ledger.write(job, plain, histograms(found, len(job.val)), {}, b"weights")
        return True

    def _train(self, report: Report) -> Iterator[dict[str, float]]:
        for trained in train():
            yield trained
            if not report(trained):
                return
