"""Number of images that fit into a device's memory: found by trying, and stored for later fits. Independent of Ray."""

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

# Error texts of PyTorch, cuBLAS, cuDNN, NCCL and the host other than `torch.OutOfMemoryError`.
MESSAGES = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
# CUDA's own memory in each process, in addition to what PyTorch counts.
CONTEXT_BYTES = 600 * 2**20


def within_memory(
    memory: Memory,
    kind: Kind,
    images: int,
    device: torch.device,
    attempt: Callable[[int], Done],
    smallest: int = 1,
) -> Done:
    """Return attempt(images at a time); if memory runs out, with half as many from then on, but at least `smallest`.

    If one of several workers runs out, its peers wait for it in a collective, which only new workers resolve: then
    `OutOfMemory` is raised with `again`; without `again` if even the fewest images are too many.
    """
    fewest = math.ceil(images / most_parts(images, smallest))
    while True:
        at_a_time = workers.from_first(memory.at_a_time(kind, images, smallest))
        try:
            return attempt(at_a_time)
        except RuntimeError as error:
            if not ran_out(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold memory that the next attempt needs
        _release(device)
        if at_a_time == fewest:
            subject = (
                "one image at a time does" if fewest == 1 else f"{fewest} images at a time, the fewest, do"
            )
            raise OutOfMemory(
                f"{subject} not fit into the memory of {device_name(device)}: {_kind_text(kind)}; "
                "use a smaller image_size or network, or fewer fits per GPU",
                again=False,
            )
        memory.note(kind, math.ceil(at_a_time / 2))
        if workers.size() > 1:
            raise OutOfMemory(
                f"{at_a_time} images at a time do not fit into {device_name(device)}", again=True
            )


def ran_out(error: RuntimeError) -> bool:
    """Return whether an error means that memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or any(message in str(error) for message in MESSAGES)


def device_name(device: torch.device) -> str:
    """Name of the device, and the memory that this process may use of it."""
    if device.type != "cuda":
        return platform.machine()
    index = torch.cuda.current_device() if device.index is None else device.index
    total = torch.cuda.get_device_properties(index).total_memory
    share = torch.cuda.get_per_process_memory_fraction(index)
    return f"{torch.cuda.get_device_name(index)} with {total * share / 2**30:.1f} GiB"


def cap_memory(device: torch.device, num_fits: int) -> None:
    """Limit this process to its share of a GPU's memory, so that none of `num_fits` processes starves another."""
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(fraction_of(total, num_fits), device)


def fraction_of(total_bytes: int, num_fits: int) -> float:
    """The share of a GPU's memory that PyTorch may take in each of `num_fits` processes."""
    return max(0.0, 1 / num_fits - CONTEXT_BYTES / total_bytes)


def killed_for_memory() -> int:
    """Number of processes that Linux has killed on this machine for lack of memory since boot."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _kind_text(kind: Kind) -> str:
    return ", ".join(f"{name} {value}" for name, value in kind.items())
