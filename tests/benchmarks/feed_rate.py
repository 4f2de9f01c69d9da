"""Images a second into a training loop: our batches against decoding files in every epoch, as a Dataset usually does.

    python tests/benchmarks/feed_rate.py
    python tests/benchmarks/feed_rate.py --pipelines standard --rounds 5 --json
    python tests/benchmarks/feed_rate.py --decoding-only          # without "same steps" and the second table

Three ways, side by side in rounds that alternate their order, each with two workers:

ours         `TrainingBatches`: the cache, our steps, threads.
decoding     OpenCV reads image and mask and resizes both, albumentations does the same as the pipeline, and torch's
             DataLoader gets the batches from processes.
same steps   As before, with our steps in place of albumentations.

All hand over the same: uint8 batches of 16, divided by 255 in the loop, which does nothing else. Each way has a process
of its own: ours is settled as one that trains is (`training/process.py`), the others are as they come. The frames are
drawn, 621 x 530 as Kvasir-SEG's are in the median and 1225 x 966 as ETIS's (JPEG, quality 95; masks PNG); where
POLYP_DATA names a folder that holds Kvasir-SEG (default ../shared/data/polyps), its own files, too. Every way is warm:
workers run, and all files are in the memory of the system. The second table says where the time of one image goes, in
one process that does nothing else.

Nothing is asserted about time; a way that did not deliver every image raises `RuntimeError`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from itertools import product
from multiprocessing import get_context
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rows import Row, add_rows_option, save_rows, spread
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from orchestrator.data.augmentation.pipelines import case_seed, pipeline
from orchestrator.data.augmentation.steps import unpack
from orchestrator.data.cache.frames import cached_cases
from orchestrator.data.cases import Case
from orchestrator.data.cases import Dataset as Cases
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.training.batches import TrainingBatches, as_tensors, on_device
from orchestrator.training.process import configure_process
from orchestrator.training.recipe import Recipe

BATCH = 16
WAYS = ("ours", "decoding", "same steps")
CPU = torch.device("cpu")
USUAL = {
    "none": [],
    "flips": [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)],
    "standard": [
        A.HorizontalFlip(p=0.5),
        A.VerticalFlip(p=0.5),
        A.RandomRotate90(p=0.5),
        A.Affine(translate_percent=(-0.1, 0.1), scale=(0.75, 1.25), rotate=(-30, 30), p=0.7),
        A.ColorJitter((0.75, 1.25), (0.75, 1.25), (0.75, 1.25), (-0.03, 0.03), p=0.8),
        A.OneOf([A.GaussianBlur((3, 5), p=1), A.MotionBlur((3, 5), p=1)], p=0.2),
    ],
}
Change = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Rate:
    """One way, once."""

    frames: str
    size: int
    pipeline: str
    way: str
    images_per_second: float


def decoded(case: Case, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One case from its files: image uint8 (size, size, 3), mask uint8 (size, size) in {0, 1}."""
    image = cv2.cvtColor(cv2.imread(str(case.image)), cv2.COLOR_BGR2RGB)
    mask = cv2.imread(str(case.mask), cv2.IMREAD_GRAYSCALE)
    return cv2.resize(image, (size, size)), (cv2.resize(mask, (size, size)) > 127).view(np.uint8)


class Decoding(Dataset):
    """What a Dataset usually is."""

    def __init__(self, cases: Sequence[Case], size: int, change: Change) -> None:
        self.cases, self.size, self.change = cases, size, change

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return as_tensors(*self.change(*decoded(self.cases[index], self.size), index))


class Usual:
    """albumentations, composed once, as its own documentation has it; torch seeds the workers."""

    def __init__(self, name: str) -> None:
        self.compose = A.Compose(USUAL[name])

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        changed = self.compose(image=image, mask=mask)
        return changed["image"], changed["mask"]


class Decoder:
    """The other two ways, with the interface of `TrainingBatches`."""

    def __init__(self, dataset: Cases, size: int, change: Change, workers: int) -> None:
        self.loader: DataLoader = DataLoader(
            Decoding(dataset.cases, size, change),
            batch_size=BATCH,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        for image, mask in self.loader:
            yield on_device(image, mask, CPU)


@lru_cache(maxsize=1)  # the workers of the set before are ended
def feeder_of(
    way: str, dataset: Cases, size: int, name: str, workers: int, folder: Path
) -> TrainingBatches | Decoder:
    """One way in its process; its workers start when it is first asked for an epoch."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if way == "decoding":
        return Decoder(dataset, size, Usual(name), workers)
    if way == "same steps":
        return Decoder(dataset, size, pipeline(name, size), workers)
    configure_process(threads=1)
    recipe = Recipe(image_size=size, batch_size=BATCH, augmentation=name)
    ids = tuple(case.id for case in dataset.cases)
    return TrainingBatches(cached_cases([dataset], size, folder), ids, recipe, 32, CPU, workers)


def images_per_second(
    way: str, dataset: Cases, size: int, name: str, workers: int, folder: Path, seconds: float
) -> float:
    """Whole epochs until at least so many seconds have gone by, after one that is not counted."""
    feed, num_cases = feeder_of(way, dataset, size, name, workers, folder), len(dataset.cases)
    counted = sum(len(image) for image, _ in feed.epoch(0))
    if counted != num_cases:
        raise RuntimeError(f"{num_cases} images expected in an epoch, {counted} came")
    began, images, epoch = time.perf_counter(), 0, 1
    while time.perf_counter() - began < seconds:
        images += sum(len(image) for image, _ in feed.epoch(epoch))
        epoch += 1
    return images / (time.perf_counter() - began)


def measure(options: argparse.Namespace, sets: dict[str, Cases], folder: Path) -> list[Rate]:
    rates = []
    with ExitStack() as processes:
        at_work = {
            way: processes.enter_context(ProcessPoolExecutor(1, get_context("spawn"))) for way in options.ways
        }
        for (frames, dataset), size, name in product(sets.items(), options.sizes, options.pipelines):
            for number in range(options.rounds):
                for way in options.ways if number % 2 == 0 else reversed(options.ways):
                    asked = way, dataset, size, name, options.workers, folder, options.seconds
                    rate = at_work[way].submit(images_per_second, *asked).result()
                    rates.append(Rate(frames, size, name, way, rate))
            found = _ratios(rates[-len(at_work) * options.rounds :], "decoding")
            say(f"{frames}, {size}, {name}: {spread(found)}")
    return rates


def split(dataset: Cases, size: int, name: str, folder: Path) -> dict[str, float]:
    """Milliseconds of one image in one process: means over the cases."""
    cases = cached_cases([dataset], size, folder)
    steps, usual = pipeline(name, size), Usual(name)
    frames = [cases.frame(case.id) for case in dataset.cases]
    pairs = [unpack(frame) for frame in frames]
    seeds = [case_seed(0, 0, case.id) for case in dataset.cases]
    return {
        "our steps": _milliseconds(lambda seed: steps.of_packed(frames[seed % len(frames)], seed), seeds),
        "to tensors": _milliseconds(lambda pair: as_tensors(*pair), pairs),
        "decode and resize": _milliseconds(lambda case: decoded(case, size), dataset.cases),
        "albumentations": _milliseconds(lambda pair: usual(*pair, 0), pairs),
    }


def _milliseconds(work: Callable, over: Iterable) -> float:
    times = []
    for _ in range(3):
        for one in over:
            began = time.perf_counter()
            work(one)
            times.append(time.perf_counter() - began)
    return 1e3 * statistics.mean(sorted(times)[: len(times) * 9 // 10])  # without what interrupts it


def frame_sets(home: Path, num_cases: int) -> dict[str, Cases]:
    """Datasets by a name for the table."""
    found = {}
    for label, height in (("drawn 621 x 530", 530), ("drawn 1225 x 966", 966)):
        folder = home / f"frames-{height}"
        draw_dataset(folder, num_cases=num_cases, size=height)
        found[label] = add_dataset(home, f"drawn-{height}", folder, allow_empty=True)
    kvasir = Path(os.environ.get("POLYP_DATA", "../shared/data/polyps")) / "Kvasir-SEG"
    if not kvasir.is_dir():
        say(f"left out: {kvasir} is not there")
        return found
    some = home / "kvasir"
    for part in ("images", "masks"):
        (some / part).mkdir(parents=True)
        for file in sorted((kvasir / part).iterdir())[:num_cases]:
            (some / part / file.name).symlink_to(file.resolve())
    return {**found, "Kvasir-SEG": add_dataset(home, "kvasir", some)}


def table(rates: Sequence[Rate], ways: Sequence[str]) -> Table:
    """Median (min to max) over rounds; a ratio is within one round."""
    drawn = Table("frames", "size", "pipeline", title="images a second", title_justify="left")
    for heading in (*ways, *(f"ours / {way}" for way in ways[1:])):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for key in dict.fromkeys((rate.frames, rate.size, rate.pipeline) for rate in rates):
        same = [rate for rate in rates if (rate.frames, rate.size, rate.pipeline) == key]
        values = [spread([rate.images_per_second for rate in same if rate.way == way]) for way in ways]
        ratios = [spread(_ratios(same, way)) for way in ways[1:]]
        drawn.add_row(key[0], str(key[1]), key[2], *values, *ratios)
    return drawn


def split_table(splits: dict[tuple[str, int, str], dict[str, float]]) -> Table:
    drawn = Table("frames", "size", "pipeline", title="milliseconds of one image", title_justify="left")
    for heading in next(iter(splits.values())):
        drawn.add_column(heading, justify="right")
    for (frames, size, name), parts in splits.items():
        drawn.add_row(frames, str(size), name, *(f"{value:.2f}" for value in parts.values()))
    return drawn


def bench_rows(rates: Sequence[Rate]) -> list[Row]:
    rows = []
    for frames, size, name in dict.fromkeys((rate.frames, rate.size, rate.pipeline) for rate in rates):
        of = {
            way: tuple(
                rate.images_per_second
                for rate in rates
                if (rate.frames, rate.size, rate.pipeline, rate.way) == (frames, size, name, way)
            )
            for way in ("ours", "decoding")
        }
        what, bound = f"images into training: {frames} to {size}, {name}", f"the steps of the pipeline {name}"
        against = "files decoded by OpenCV, albumentations, a DataLoader"
        rows.append(Row(what, against, "images/s", of["ours"], of["decoding"], is_rate=True, bound=bound))
    return rows


def _ratios(rates: Sequence[Rate], way: str) -> list[float]:
    ours = [rate.images_per_second for rate in rates if rate.way == "ours"]
    theirs = [rate.images_per_second for rate in rates if rate.way == way]
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Feed rate: the cache against decoding in every epoch.")
    parser.add_argument("--cases", type=int, default=96, help="frames a set; a multiple of 16")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 352], help="input sides in pixels")
    parser.add_argument("--pipelines", nargs="+", default=list(USUAL), choices=list(USUAL))
    parser.add_argument("--workers", type=int, default=2, help="of each loader")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="at least, for each way in each round")
    parser.add_argument(
        "--decoding-only", action="store_true", help='without "same steps" and the second table'
    )
    parser.add_argument("--json", action="store_true", help="every measurement, for programs")
    add_rows_option(parser)
    options = parser.parse_args()
    if options.cases < BATCH or options.cases % BATCH:
        parser.error(f"--cases needs a positive multiple of {BATCH}, found {options.cases}")
    options.ways = WAYS[:2] if options.decoding_only else WAYS
    configure_process(threads=1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        sets = frame_sets(home, options.cases)
        rates = measure(options, sets, home / "cache")
        splits = {
            (frames, size, name): split(dataset, size, name, home / "cache")
            for frames, dataset in sets.items()
            for size in options.sizes
            for name in options.pipelines
            if not options.decoding_only
        }
    save_rows(options.rows, bench_rows(rates))
    if options.json:
        parts = [
            {"frames": frames, "size": size, "pipeline": name, "milliseconds": found}
            for (frames, size, name), found in splits.items()
        ]
        print(json.dumps({"load": load, "rates": [asdict(rate) for rate in rates], "split": parts}, indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else 170)
    console.print(table(rates, options.ways))
    if splits:
        console.print(split_table(splits))
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "albumentations", "opencv-python-headless")
    )
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores (load {load:.1f} at the start), {versions}",
        highlight=False,
    )


if __name__ == "__main__":
    main()
