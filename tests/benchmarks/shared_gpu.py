"""Fits per hour where 1, 2 or 4 fits share a GPU: what `search --fits-per-gpu` is worth.

    python tests/benchmarks/shared_gpu.py                                # on a machine with a GPU; minutes
    python tests/benchmarks/shared_gpu.py --networks unet --sizes 128 --fits-per-gpu 1 2 4 8 --json

The same fits (drawn frames, the pipeline `standard`, one learning rate each), passed through warm lanes of one GPU: one
lane that has all of it, two that have a half each, and so on, each with its share of the cores. Every lane first trains
an epoch that does not count, so that CUDA's and cuDNN's start is not timed. Images a second are those of training and
validation together; memory is the most that the GPU had given away, CUDA's own part of every process included.

Printed on an H200 with 16 cores, torch 2.11, before fits had channels last. U-Net of the paper's width, short fits
(`--networks unet --cases 144 --epochs 3 --fits 8`): 1,114 fits per hour alone, 1.60 times as many with two at a time,
1.88 times with four, which took 18.5 GiB (by nvidia-smi). ResUNet++ (`--networks resunet_pp --fits 4`): 717 alone, 1.03
times with two: it kept the GPU busy by itself, over half of the time with BatchNorm in a layout that suits it badly
(channels_last.py).

Nothing is asserted about time; a fit that fails raises `RuntimeError`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import ray
import torch
from rich.console import Console
from rich.table import Table

from orchestrator import models
from orchestrator.data.cases import Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.ray_cluster.machine import Machine, shape_lanes
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.records.ledger import Ledger
from orchestrator.training.ray.lanes import Lanes
from orchestrator.training.recipe import FitSpec, Recipe

NUM_VAL = 16


@dataclass(frozen=True)
class Measured:
    """So many fits at a time."""

    network: str
    image_size: int
    fits_per_gpu: int
    num_fits: int
    seconds: float  # from the first fit to the end of the last
    images_per_second: float
    peak_gib: float

    @property
    def fits_per_hour(self) -> float:
        return 3600 * self.num_fits / self.seconds


class Gauge:
    """Asks the driver, a few times a second, how much memory of the GPU is taken."""

    def __enter__(self) -> Gauge:
        self.peak_gib, self.over = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.over.wait(0.3):
            free, total = torch.cuda.mem_get_info(0)
            self.peak_gib = max(self.peak_gib, (total - free) / 2**30)


def fits_of(
    network: str, image_size: int, dataset: Dataset, count: int, epochs: int, batch: int
) -> list[FitSpec]:
    """`count` fits that differ in their learning rate."""
    ids = tuple(case.id for case in dataset.cases)
    pretrained = {"pretrained": False} if "pretrained" in models.params(network) else {}
    return [
        FitSpec(
            network=network,
            network_params=pretrained,
            recipe=Recipe(
                image_size=image_size,
                epochs=epochs,
                batch_size=batch,
                learning_rate=1e-4 * (1 + number / 100),
            ),
            datasets={dataset.name: dataset.fingerprint},
            train=ids[:-NUM_VAL],
            val=ids[-NUM_VAL:],
            fold="0",
        )
        for number in range(count)
    ]


def measure(
    network: str, image_size: int, fits_per_gpu: int, home: Path, dataset: Dataset, asked: argparse.Namespace
) -> Measured:
    folder = Path(tempfile.mkdtemp(dir=home))
    work = FitJobRunner(home, home / "cache", Ledger(folder))
    shape = shape_lanes(ray.nodes(), Machine(device="cuda", workers_per_fit=1, fits_per_gpu=fits_per_gpu))
    warm = fits_of(network, image_size, dataset, fits_per_gpu, 1, asked.batch)
    timed = fits_of(network, image_size, dataset, asked.fits, asked.epochs, asked.batch)
    with Lanes(work, shape, folder / "train") as lanes:
        while ray.get(lanes.dispatcher.count.remote())[0] < shape.num_lanes:
            time.sleep(0.05)
        run_all(lanes, warm)
        with Gauge() as gauge:
            began = time.perf_counter()
            run_all(lanes, timed)
            seconds = time.perf_counter() - began
    images = len(timed) * asked.epochs * len(dataset.cases)
    return Measured(network, image_size, fits_per_gpu, len(timed), seconds, images / seconds, gauge.peak_gib)


def run_all(lanes: Lanes, specs: list[FitSpec]) -> None:
    failed = lanes.run_all({spec.fit_id: spec for spec in specs})
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(specs)} fits failed: {next(iter(failed.values()))}")


def show(found: list[Measured]) -> None:
    table = Table(title=f"{torch.cuda.get_device_name(0)}, {os.cpu_count()} cores, torch {torch.__version__}")
    for head in (
        "network",
        "pixels",
        "fits at a time",
        "fits per hour",
        "times one",
        "images/s",
        "peak, GiB",
    ):
        table.add_column(head, justify="left" if head == "network" else "right")
    for one in found:
        alone = next(
            other
            for other in found
            if (other.network, other.image_size)
            == (one.network, one.image_size)  # the first is one at a time
        )
        table.add_row(
            one.network,
            str(one.image_size),
            str(one.fits_per_gpu),
            f"{one.fits_per_hour:.0f}",
            f"{one.fits_per_hour / alone.fits_per_hour:.2f}",
            f"{one.images_per_second:.0f}",
            f"{one.peak_gib:.1f}",
        )
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fits per hour where several share a GPU.")
    parser.add_argument("--networks", nargs="+", default=["unet", "resunet_pp", "pranet"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256], help="sides of images, in pixels")
    parser.add_argument("--fits-per-gpu", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--fits", type=int, default=8, help="that are timed, in all lanes together")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--cases", type=int, default=528, help=f"drawn frames, {NUM_VAL} of them to validate")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: a GPU is needed, found none")
        return
    ray.init("local", log_to_driver=False, logging_level=logging.ERROR)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        draw_dataset(home / "frames", num_cases=asked.cases, size=max(asked.sizes))
        dataset = add_dataset(home, "drawn", home / "frames", allow_empty=True)
        for network in asked.networks:
            for size in asked.sizes:
                for fits_per_gpu in asked.fits_per_gpu:
                    found.append(measure(network, size, fits_per_gpu, home, dataset, asked))
                    print(found[-1], file=sys.stderr, flush=True)
    ray.shutdown()
    if asked.json:
        around = {
            "gpu": torch.cuda.get_device_name(0),
            "machine": platform.platform(),
            "cores": os.cpu_count(),
        }
        print(json.dumps({**around, "measured": [asdict(one) for one in found]}, indent=1))
    else:
        show(found)


if __name__ == "__main__":
    main()
