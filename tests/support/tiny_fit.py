"""A fit that costs next to nothing, so that what is left is the cost of starting it.

Imports torch and nothing heavier: every process that trains it pays for its imports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from orchestrator.training import workers
from orchestrator.training.jobs import job_kind

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


@job_kind
@dataclass(frozen=True)
class TinyFit:
    """The job of such a fit; its number does not matter."""

    number: int


def perform(fit: TinyFit, device: torch.device, loader_workers: int, report: Report) -> bool:
    """The fit as a lane's job."""
    return all(report(row) for row in train())
