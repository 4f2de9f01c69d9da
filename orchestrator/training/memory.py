"""What fits into the memory of a device: found out by trying, and remembered for the fits that follow. Knows no Ray."""

from __future__ import annotations

import gc
import math
import platform
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from orchestrator.common.errors import OutOfMemory
from orchestrator.training import workers
from orchestrator.training.batch_memory import Kind, Memory, most_parts

Done = TypeVar("Done")

# How PyTorch, cuBLAS, cuDNN, NCCL and the host say it where they do not raise `torch.OutOfMemoryError`.
SAYINGS = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
# CUDA itself takes so much in each process, beside what PyTorch counts.
CONTEXT_BYTES = 600 * 2**20


def within_memory(
    memory: Memory,
    kind: Kind,
    images: int,
    device: torch.device,
    attempt: Callable[[int], Done],
    smallest: int = 1,
) -> Done:
    """Return attempt(images at a time); where memory runs out, half as many from then on, but `smallest` or more.

    Among several workers one alone may have run out, and its peers wait for it in a collective: only new workers get
    out of that, so `OutOfMemory` asks for them. It is raised for good where the fewest images are too much.
    """
    fewest = math.ceil(images / most_parts(images, smallest))
    while True:
        at_a_time = workers.from_first(memory.at_a_time(kind, images, smallest))
        try:
            return attempt(at_a_time)
        except RuntimeError as error:
            if not ran_out(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold what the next try needs
        _release(device)
        if at_a_time == fewest:
            said = "one image at a time does" if fewest == 1 else f"{fewest} images at a time, the fewest, do"
            raise OutOfMemory(
                f"{said} not fit into the memory of {device_name(device)}: {_told(kind)}; "
                "a smaller image_size or network, or fewer fits per GPU, would",
                again=False,
            )
        memory.note(kind, math.ceil(at_a_time / 2))
        if workers.size() > 1:
            raise OutOfMemory(
                f"{at_a_time} images at a time do not fit into {device_name(device)}", again=True
            )


def ran_out(error: RuntimeError) -> bool:
    """Say whether memory was what failed."""
    return isinstance(error, torch.OutOfMemoryError) or any(saying in str(error) for saying in SAYINGS)


def device_name(device: torch.device) -> str:
    """The device and the memory that this process may take of it."""
    if device.type != "cuda":
        return platform.machine()
    index = torch.cuda.current_device() if device.index is None else device.index
    total = torch.cuda.get_device_properties(index).total_memory
    share = torch.cuda.get_per_process_memory_fraction(index)
    return f"{torch.cuda.get_device_name(index)} with {total * share / 2**30:.1f} GiB"


def cap_memory(device: torch.device, num_fits: int) -> None:
    """Take no more of a GPU than one of so many processes may, so that none starves another."""
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(fraction_of(total, num_fits), device)


def fraction_of(total_bytes: int, num_fits: int) -> float:
    """The share of a GPU's memory that PyTorch may take in each of so many processes."""
    return max(0.0, 1 / num_fits - CONTEXT_BYTES / total_bytes)


def killed_for_memory() -> int:
    """How many processes Linux has killed on this machine for want of memory, since it started."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _told(kind: Kind) -> str:
    return ", ".join(f"{name} {value}" for name, value in kind.items())
