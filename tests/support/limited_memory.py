"""Networks whose memory ends at so many images, and one without BatchNorm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from orchestrator import models
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.training import workers

build = models.build


class Plain(nn.Module):
    """Two convolutions: what it makes of an image depends on no other image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) -> logits (B, 1, H, W)"""
        return (self.layers(image),)


@contextmanager
def every_network(make: Callable[[], nn.Module]) -> Iterator[None]:
    """Let every network that is built be this one."""
    with patch.object(models, "build", lambda name, **params: make()):
        yield


@contextmanager
def memory_limit(
    largest: int, rank: int | None = None, largest_scored: float = math.inf
) -> Iterator[list[int]]:
    """Let memory run out above so many images in training, on one rank or on all; yields what was tried.

    largest_scored: above how many in evaluation.
    """
    tried: list[int] = []

    def refuse(network: nn.Module, args: tuple[Tensor, ...]) -> None:
        if network.training:
            tried.append(len(args[0]))
        most = largest if network.training else largest_scored
        if len(args[0]) > most and rank in (None, workers.rank()):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def make(name: str, **params: Any) -> nn.Module:
        network = build(name, **params)
        network.register_forward_pre_hook(refuse)
        return network

    with patch.object(models, "build", make):
        yield tried


@dataclass(frozen=True)
class LimitedMemoryWork:
    """Does what `FitJobRunner` does, on devices with little memory."""

    work: FitJobRunner
    largest: int
    rank: int | None = None

    def __call__(self, job: Any, device: torch.device, loader_workers: int, report: Any) -> bool:
        with memory_limit(self.largest, self.rank):
            return self.work(job, device, loader_workers, report)
