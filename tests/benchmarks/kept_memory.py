"""What a training step gains where freed memory is kept (`training/process.py`), side by side with none of it kept.

    python tests/benchmarks/kept_memory.py

Steps of U-Net on one core, in a thread, as Ray Train has it. Each way has processes of its own, and they take turns.
Besides the time of a step, the table has its faults (new pages asked of the system) and the most memory held.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch
from rich.console import Console
from rich.table import Table
from rows import Row, add_rows_option, save_rows, spread
from torch.nn.functional import binary_cross_entropy_with_logits

from orchestrator import models
from orchestrator.common.allocator import KEEP_FREED_MEMORY

WAYS = ("as it comes", "kept")


@dataclass(frozen=True)
class Cost:
    """Of one step; the peak is the process's, in MB."""

    milliseconds: float
    faults: float
    peak: float


def cost(size: int, batch: int, steps: int) -> Cost:
    """Mean over steps, after two that are not counted."""
    torch.set_num_threads(1)
    network = models.build("unet", base_channels=16)
    optimizer = torch.optim.Adam(network.parameters())
    image, mask = torch.rand(batch, 3, size, size), torch.ones(batch, 1, size, size)

    def train(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(network(image)[0], mask).backward()
            optimizer.step()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(train, 2).result()
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        thread.submit(train, steps).result()
        took, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    return Cost(1e3 * took / steps, (used.ru_minflt - before) / steps, used.ru_maxrss / 1e3)


def measured(way: str, options: argparse.Namespace) -> Cost:
    for name in KEEP_FREED_MEMORY:
        os.environ.pop(name, None)
    if way == "kept":
        os.environ |= KEEP_FREED_MEMORY
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(cost, options.size, options.batch, options.steps).result()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Training steps where freed memory is kept, and where it is not."
    )
    parser.add_argument("--size", type=int, default=256, help="side of the images, in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4, help="of each way in each round")
    parser.add_argument("--rounds", type=int, default=3)
    add_rows_option(parser)
    options = parser.parse_args()
    found: dict[str, list[Cost]] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        for way in WAYS if number % 2 == 0 else reversed(WAYS):
            found[way].append(measured(way, options))
    drawn = Table("way", "ms of a step", "faults of a step", "peak, MB")
    for way in WAYS:
        times, faults, peaks = zip(*((c.milliseconds, c.faults, c.peak) for c in found[way]), strict=True)
        drawn.add_row(way, *(spread(values) for values in (times, faults, peaks)))
    ours, theirs = (tuple(c.milliseconds for c in found[way]) for way in reversed(WAYS))
    what, bound = f"training step of U-Net, {options.size} pixels, freed memory kept", "the convolutions"
    save_rows(options.rows, [Row(what, "the same step as glibc comes", "ms", ours, theirs, bound=bound)])
    ratios = [a.milliseconds / b.milliseconds for a, b in zip(*found.values(), strict=True)]
    console = Console(width=110)
    console.print(drawn)
    console.print(
        f"{spread(ratios)} times as fast; U-Net, {options.batch} images of {options.size} pixels, "
        f"{' '.join(platform.libc_ver())}",
        highlight=False,
    )


if __name__ == "__main__":
    main()
