"""A machine that has GPUs of these compute capabilities, and a PyTorch that was compiled for these architectures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch

CUDA_13 = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
VOLTA, HOPPER = (7, 0), (9, 0)


@contextmanager
def gpus(
    *capabilities: tuple[int, int], compiled: str = CUDA_13, version: str = "2.14.1+cu130"
) -> Iterator[None]:
    answers: dict[str, object] = {
        "is_available": lambda: bool(capabilities),
        "device_count": lambda: len(capabilities),
        "get_device_capability": lambda index=0: capabilities[index],
        "get_device_name": lambda index=0: f"GPU of {_words(capabilities[index])}",
        "get_arch_list": lambda: compiled.split(),
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        stack.enter_context(patch.object(torch, "__version__", version))
        yield


def _words(numbers: Sequence[int]) -> str:
    return ".".join(map(str, numbers))
