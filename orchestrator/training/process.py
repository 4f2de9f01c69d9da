"""Process-wide configuration for training: threads, and an allocator that keeps freed memory.

Every step allocates the same large tensors again (common/allocator.py).
"""

from __future__ import annotations

import cv2
import torch

from orchestrator.common.allocator import keep_freed_memory
from orchestrator.common.cpus import usable_cpus


def configure_process(threads: int | None = None) -> None:
    """Keep freed memory, limit OpenCV to one thread per call, and torch to `threads` (None: its default).

    Never more than the cores of this process, whatever Ray assumes: with twice as many, a step takes three times as
    long. Several of our threads prepare frames at once, so more OpenCV threads would only compete. A thread that
    already has a memory arena keeps it: processes in which others start threads are launched with `KEEP_FREED_MEMORY`.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(min(threads or torch.get_num_threads(), usable_cpus()))
    keep_freed_memory()
