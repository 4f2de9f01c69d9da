"""Work that makes every process which is given it believe that it has a V100, and a PyTorch without code for that."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import ray.train.torch
import torch
from pretended import VOLTA, gpus

PRETENDED = ExitStack()  # for as long as the process lives


class OnVolta:
    """`starts`: whether its driver works."""

    def __init__(self, starts: bool = True) -> None:
        self.starts = starts

    def __reduce__(self) -> tuple[Any, tuple]:
        return _pretend, (self.starts,)

    def __call__(self, *_: object) -> bool:
        raise AssertionError("a fit was begun")


def _pretend(starts: bool) -> OnVolta:
    PRETENDED.enter_context(gpus(VOLTA))
    ray.train.torch.get_device = lambda: torch.device("cuda:0")
    if starts:
        torch.cuda.set_device = lambda device: None
    return OnVolta(starts)
