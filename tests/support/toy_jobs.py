"""Jobs that need no network: they count epochs, and can be told to go wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from orchestrator.common.errors import BadMachine, FitFailed, OutOfMemory
from orchestrator.training.jobs import job_kind
from orchestrator.training.ray import dispatcher


@job_kind
@dataclass(frozen=True)
class Toy:
    """Count `epochs`; `trouble` is "nan", "crash", "refused", "memory" (on rank 1 alone), or "kill" (once: only if
    `marker` is not there yet).
    """

    epochs: int = 2
    trouble: str = ""
    marker: Path | None = None
    seconds: float = 0.0  # each epoch takes so long


def perform(
    toy: Toy, device: torch.device, loader_workers: int, report: Callable[[dict[str, float]], bool]
) -> bool:
    for epoch in range(toy.epochs):
        time.sleep(toy.seconds)
        total = torch.ones(1)
        dist.all_reduce(total)
        if toy.trouble == "nan":
            raise FitFailed("the loss became nan")
        if toy.trouble == "crash":
            raise RuntimeError("no space left")
        if toy.trouble == "memory" and dist.get_rank() == 1:
            raise OutOfMemory("one image at a time does not fit")
        if toy.trouble == "refused":
            raise BadMachine("batch_size", "cannot be dealt")
        if toy.trouble == "kill" and (toy.marker is None or not toy.marker.exists()) and dist.get_rank() == 0:
            if toy.marker is not None:
                toy.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if not report({"epoch": epoch, "width": float(total), "pid": os.getpid()}):
            return False
    return True


class HastyDispatcher(dispatcher.Dispatcher):
    """Answers within a moment that there is no news, so that a test need not wait for it."""

    def __init__(self) -> None:
        super().__init__()
        dispatcher.PATIENCE_S = 0.2  # in the actor's own process
