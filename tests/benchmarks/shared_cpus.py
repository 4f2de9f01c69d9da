"""Training steps of processes that share the cores: as OpenMP comes, and with threads that soon sleep (common/cpus.py).

    python tests/benchmarks/shared_cpus.py
    python tests/benchmarks/shared_cpus.py --processes 1 2 4 --threads 8 --rounds 5

So many processes at once, each with `--threads` threads, train U-Net. OpenMP's threads spin while they wait for each
other; where there are more of them than cores, those that spin hold the cores that the others need. Ways take turns,
the seconds are wall time of a step, the mean over the processes; with one process and idle cores the two should be
equal. "one thread" has one thread a process, what one would choose who knows that the machine is shared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

import torch
from rows import Row, add_rows_option, save_rows, spread

from orchestrator import models
from orchestrator.common.cpus import SHORT_SPIN, usable_cpus

WAYS = ("sleeping soon", "as OpenMP comes", "one thread")


def step_seconds(steps: int, side: int) -> float:
    """Wall seconds of a step in this process, after two that are not counted."""
    layout = torch.channels_last
    network = models.build("unet", base_channels=8).to(memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters())
    images = torch.rand(8, 3, side, side).contiguous(memory_format=layout)
    for number in range(steps + 2):
        if number == 2:
            began = time.perf_counter()
        optimizer.zero_grad()
        network(images)[0].mean().backward()
        optimizer.step()
    return (time.perf_counter() - began) / steps


def at_once(way: str, processes: int, options: argparse.Namespace) -> float:
    """Mean of the processes, which start together."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = inherited | (SHORT_SPIN if way == "sleeping soon" else {})
    threads = 1 if way == "one thread" else options.threads
    command = [sys.executable, __file__, "--one", str(threads), "--steps", str(options.steps)]
    command += ["--side", str(options.side)]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    return statistics.mean(float(one.communicate()[0]) for one in running)


def main() -> None:
    parser = argparse.ArgumentParser(description="Training steps of processes that share the cores.")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="at once")
    parser.add_argument("--threads", type=int, default=usable_cpus(), help="of each process")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # threads of one such process: this one
    add_rows_option(parser)
    options = parser.parse_args()
    if options.one is not None:
        torch.set_num_threads(options.one)
        print(step_seconds(options.steps, options.side))
        return
    rows = []
    for processes in options.processes:
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(options.rounds):
            for way in WAYS if number % 2 == 0 else reversed(WAYS):
                found[way].append(at_once(way, processes, options))
        for way in WAYS[1:]:
            what = f"training step, {processes} processes of {options.threads} threads at once"
            ours, theirs = tuple(found[WAYS[0]]), tuple(found[way])
            rows.append(Row(what, way, "s", ours, theirs, bound="two threads of a core share its units"))
            print(f"{what}: {spread(ours)} s; {way} {spread(theirs)} s, {spread(rows[-1].ratios)} times that")
    save_rows(options.rows, rows)


if __name__ == "__main__":
    main()
