"""What a process that trains settles for itself: its threads, and that memory which it freed stays its own.

Every step asks for the same large tensors again (kept_memory.py).
"""

from __future__ import annotations

import cv2
import torch

from orchestrator.common.allocator import keep_freed_memory
from orchestrator.common.cpus import usable_cpus


def settle(threads: int | None = None) -> None:
    """Keep freed memory, leave OpenCV one thread a call, and give torch so many (None: as many as it likes).

    Never more than there are cores for this process, whatever Ray was told: with twice as many, a step takes three
    times as long. Several threads of ours prepare frames at once, so that OpenCV's own would only get in their way. A
    thread that has a pool of memory already keeps it: a process whose threads are not its own is started with
    `KEEP_FREED_MEMORY`.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(min(threads or torch.get_num_threads(), usable_cpus()))
    keep_freed_memory()
