"""Where the wall time of a fit goes: batches, steps, validation, checkpoints, scoring, the record.

    python tests/benchmarks/fit_anatomy.py                                        # a narrow U-Net on one core; a minute
    python tests/benchmarks/fit_anatomy.py --device cuda --networks unet resunet_pp --size 256 --threads 4

Fits of `--epochs` epochs on drawn frames, the pipeline `standard`, through the `FitJobRunner` that a lane runs; the
first of each network does not count. Each part is timed where it is called, and a GPU is waited for before and after,
so that its work is booked where it was asked for; the sum is a little more than a fit takes when nobody looks.
`waiting` is the time until a batch is there, `checkpoint` is written after every epoch to --folder,
`else` is what no part holds.

Printed on an H100 with 16 cores by the second command and `--channels 0 --cases 400`, U-Net and ResUNet++: steps 25 and
50 % of a fit of three epochs, checkpoints 37 and 7 % (0.5 GB an epoch of U-Net's), validation 6 and 15 %, waiting for
batches 2 and 3 %. Before fits had channels last, steps took 1.6 times as long.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table

from orchestrator import models
from orchestrator.data.cases import Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.search import fit_jobs as work_module
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.records.ledger import Ledger
from orchestrator.training import fit as fit_module
from orchestrator.training.batches import TrainingBatches
from orchestrator.training.process import configure_process
from orchestrator.training.recipe import FitSpec, Recipe

# part -> what is timed for it
PARTS: dict[str, tuple[Any, str]] = {
    "build": (models, "build"),
    "step": (fit_module, "_backward"),
    "optimizer": (fit_module.torch.amp.GradScaler, "step"),
    "validation": (fit_module, "validate"),
    "checkpoint": (fit_module, "save_checkpoint"),
    "scoring": (fit_module, "score_cases"),
    "examples": (work_module, "example_maps"),
    "record": (Ledger, "write"),
}


class Clock:
    """Seconds by part."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, Counter[str]()

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def around(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            began = self.now()
            try:
                return call(*args, **named)
            finally:
                self.seconds[part] += self.now() - began

        return timed

    def batches(self, epoch: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def timed(*args: Any) -> Iterator[Any]:
            waiting = epoch(*args)
            while (batch := self.around("waiting", lambda: next(waiting, None))()) is not None:
                yield batch

        return timed


def anatomy(
    spec: FitSpec, home: Path, folder: Path, device: torch.device, threads: int
) -> tuple[float, Counter[str]]:
    """Seconds of one fit, and of its parts."""
    clock = Clock(device)
    with ExitStack() as stack, tempfile.TemporaryDirectory(dir=folder) as ledger:
        for part, (owner, name) in PARTS.items():
            stack.enter_context(patch.object(owner, name, clock.around(part, getattr(owner, name))))
        stack.enter_context(patch.object(TrainingBatches, "epoch", clock.batches(TrainingBatches.epoch)))
        began = clock.now()
        FitJobRunner(home, home / "cache", Ledger(Path(ledger)))(spec, device, threads, lambda row: True)
        return clock.now() - began, clock.seconds


def spec_of(network: str, dataset: Dataset, asked: argparse.Namespace) -> FitSpec:
    ids = tuple(case.id for case in dataset.cases)
    num_val = len(ids) // 5
    params: dict[str, Any] = {"pretrained": False} if "pretrained" in models.params(network) else {}
    if asked.channels and "base_channels" in models.params(network):
        params["base_channels"] = asked.channels
    return FitSpec(
        network=network,
        network_params=params,
        recipe=Recipe(image_size=asked.size, epochs=asked.epochs, batch_size=asked.batch),
        datasets={dataset.name: dataset.fingerprint},
        train=ids[num_val:],
        val=ids[:num_val],
        fold="0",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the wall time of a fit goes.")
    parser.add_argument("--networks", nargs="+", default=["unet"])
    parser.add_argument("--channels", type=int, default=8, help="of U-Net's first level; 0: the paper's")
    parser.add_argument("--size", type=int, default=64, help="side of images, in pixels")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0, help="that make batches ahead")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--folder", type=Path, help="where the study would be; default: the system's for scratch"
    )
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    configure_process(1 if device.type == "cpu" else None)
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        draw_dataset(home / "frames", num_cases=asked.cases, size=asked.size)
        dataset = add_dataset(home, "drawn", home / "frames", allow_empty=True)
        for network in asked.networks:
            spec = spec_of(network, dataset, asked)
            for _ in range(2):
                found[network] = anatomy(spec, home, asked.folder or home, device, asked.threads)
    if asked.json:
        print(json.dumps({name: {"fit": fit, **parts} for name, (fit, parts) in found.items()}, indent=1))
        return
    name = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"CPU of {os.cpu_count()} cores, one used"
    )
    table = Table("part", title=f"seconds of a fit of {asked.epochs} epochs, {asked.cases} frames; {name}")
    for network in found:
        table.add_column(network, justify="right")
    for part in (*PARTS, "waiting", "else", "fit"):
        cells = []
        for whole, parts in found.values():
            own = {"else": whole - sum(parts.values()), "fit": whole} | parts
            cells.append(f"{own.get(part, 0):.2f} ({own.get(part, 0) / whole:4.0%})")
        table.add_row(part, *cells)
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)


if __name__ == "__main__":
    main()
