"""Keeping freed memory within a process, where the C library is glibc.

glibc returns large blocks to the system, and each page of new memory costs a fault: nearly a third of a training step
of U-Net on one core (tests/benchmarks/kept_memory.py), and of finding the landmarks of a frame. A process that keeps
freed memory stays as large as its peak.
"""

from __future__ import annotations

import ctypes

# Environment of new processes: one arena for all threads, also for large blocks, and nothing returned.
KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}
MALLOPT = {-8: 1, -4: 0, -1: -1}  # the same by mallopt(3), numbered as in <malloc.h>


def keep_freed_memory() -> None:
    """Keep freed memory in this process from now on. A thread that already has an arena keeps it."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for which, value in MALLOPT.items():
            mallopt(which, value)
