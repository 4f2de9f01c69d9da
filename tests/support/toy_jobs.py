"""Jobs that need no network: they count epochs, and can be told to go wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from orchestrator.errors import FitFailed


@dataclass(frozen=True)
class Toy:
    """Count `epochs`; `trouble` is "nan", "crash", or "kill" (once: only if `marker` is not there yet)."""

    epochs: int = 2
    trouble: str = ""
    marker: Path | None = None


def perform(
    toy: Toy, device: torch.device, loader_workers: int, report: Callable[[dict[str, float]], bool]
) -> bool:
    for epoch in range(toy.epochs):
        total = torch.ones(1)
        dist.all_reduce(total)
        if toy.trouble == "nan":
            raise FitFailed("the loss became nan")
        if toy.trouble == "crash":
            raise RuntimeError("out of memory")
        if toy.trouble == "kill" and (toy.marker is None or not toy.marker.exists()) and dist.get_rank() == 0:
            if toy.marker is not None:
                toy.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if not report({"epoch": epoch, "width": float(total)}):
            return False
    return True
