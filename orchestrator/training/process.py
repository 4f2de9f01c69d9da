"""What a process that trains settles for itself: its threads, and that memory which it freed stays its own.

Every step asks for the same large tensors again. The C library gives them back to the system in between, and each page
of new memory costs a fault: nearly a third of a training step of U-Net on one core (tests/benchmarks/kept_memory.py).
Kept, a process holds its peak. A C library other than glibc stays as it is.
"""

from __future__ import annotations

import ctypes

import cv2
import torch

from orchestrator.cpus import usable_cpus

# For processes that are yet to start: one pool for all threads, from which large blocks come, too, and no return.
KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}
MALLOPT = {-8: 1, -4: 0, -1: -1}  # the same by mallopt(3), numbered as in <malloc.h>


def settle(threads: int | None = None) -> None:
    """Keep freed memory, leave OpenCV one thread a call, and give torch so many (None: as many as it likes).

    Never more than there are cores for this process, whatever Ray was told: with twice as many, a step takes three
    times as long. Several threads of ours prepare frames at once, so that OpenCV's own would only get in their way. A
    thread that has a pool of memory already keeps it: a process whose threads are not its own is started with
    `KEEP_FREED_MEMORY`.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(min(threads or torch.get_num_threads(), usable_cpus()))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for which, value in MALLOPT.items():
            mallopt(which, value)
