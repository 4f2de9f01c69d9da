"""Process-wide configuration for training: threads, and an allocator that keeps freed memory.

Every step allocates the same large tensors again (common/allocator.py).
"""

from __future__ import annotations

import cv2
import torch

from orchestrator.common.allocator import keep_freed_memory
from orchestrator.common.cpus import usable_cpus
from orchestrator.common.errors import BadMachine


def configure_process(threads: int | None = None) -> None:
    """Keep freed memory, limit OpenCV to one thread per call, and torch to `threads` (None: its default).

    Never more than the cores of this process, whatever Ray assumes: with twice as many, a step takes three times as
    long. Several of our threads prepare frames at once, so more OpenCV threads would only compete. A thread that
    already has a memory arena keeps it: processes in which others start threads are launched with `KEEP_FREED_MEMORY`.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(min(threads or torch.get_num_threads(), usable_cpus()))
    keep_freed_memory()


def device_here(name: str) -> torch.device:
    """The device of a fit in this process: "cuda", "cpu", or "auto" for a GPU where torch finds one.

    Raises `BadMachine` where a GPU is asked for and none can be used.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise BadMachine("--device", "cuda needs a GPU that torch can use, found none; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
