"""What `find_near_duplicates` costs as datasets grow: CPU seconds, peak memory of all its processes, and disk space.

    python tests/benchmarks/leak_scale.py
    python tests/benchmarks/leak_scale.py --frames 20000 --json

Frames are views of the real ones in POLYP_DATA, default ../shared/data/polyps: cut out, turned, lit otherwise, noisy,
one in ten mirrored. The first view of each comes first, so that few frames hold few near-duplicates and many hold many,
as videos do. Each size is audited afresh in a temporary folder (160 kB a frame).

Nothing is asserted. Recall is of frames that are in a group with another view of theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table
from rows import Row, add_rows_option, save_rows

from orchestrator.data.cases import Case, Dataset
from orchestrator.data.near_duplicates.find import find_near_duplicates
from orchestrator.data.splits.assign import merge

POLYPS = Path(
    os.environ.get("POLYP_DATA", Path(__file__).resolve().parents[3] / "shared" / "data" / "polyps")
)
SIZES = (1000, 5000, 20_000)
HEIGHT, WIDTH = 288, 384


def view(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another look at a frame, (HEIGHT, WIDTH)."""
    height, width = frame.shape[:2]
    zoom = max(HEIGHT / height, WIDTH / width) / rng.uniform(0.65, 1)
    move = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 15), zoom)
    move[:, 2] += np.array([WIDTH - width, HEIGHT - height]) / 2 + rng.uniform(-0.08, 0.08, 2) * WIDTH
    seen = cv2.warpAffine(frame, move, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)
    noise = rng.integers(-6, 7, seen.shape, np.int8).astype(np.float32)
    noisy = cv2.convertScaleAbs(cv2.scaleAdd(seen.astype(np.float32), rng.uniform(0.8, 1.15), noise))
    return np.ascontiguousarray(noisy[:, :: -1 if rng.random() < 0.1 else 1])


def make_views(folder: Path, num_frames: int) -> Dataset:
    """A dataset of so many; the group of a case is the frame that it is a view of. No masks: none are read."""
    frames = sorted(path for path in POLYPS.glob("*/images/*") if path.parent.parent.name[0] != "_")
    order = np.random.default_rng(0).permutation(len(frames))
    cases = []
    for index in range(num_frames):
        source = frames[order[index % len(frames)]]
        rng = np.random.default_rng([1, index])
        image = folder / f"{rng.bytes(8).hex()}.jpg"  # a name that says nothing
        cv2.imwrite(str(image), view(cv2.imread(str(source)), rng), [cv2.IMWRITE_JPEG_QUALITY, 90])
        ids = f"views/{image.stem}", f"views/{source.parent.parent.name}-{source.stem}"
        cases.append(Case(ids[0], "views", ids[1], None, image, image, HEIGHT, WIDTH, 0.1, ""))
    cases.sort(key=lambda case: case.id)
    return Dataset("views", folder, tuple(cases), f"{num_frames:032d}", False)


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """GB, largest last: private memory of this process and its children, and what they share once."""
    peaks, is_over = [0.0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.5):
            peaks.append(max(peaks[-1], sum(map(_gigabytes, _family(os.getpid())))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield peaks
    is_over.set()
    watcher.join()


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from _family(int(child))


def _gigabytes(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e6


def cpu_seconds() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measure(num_frames: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        views = Path(folder) / "views"
        views.mkdir()
        dataset = make_views(views, num_frames)
        began, used = time.perf_counter(), cpu_seconds()
        with peak_memory() as peaks:
            leaks = find_near_duplicates([dataset], cache)
        used, seconds = cpu_seconds() - used, time.perf_counter() - began
        disk = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / 1e9
    views_of = {case.id: case.group for case in dataset.cases}
    sizes = Counter(views_of.values())
    alone = [replace(case, group=case.id) for case in dataset.cases]
    groups: dict[str, Counter[str]] = {}
    for id, group in merge(alone, leaks.pairs).items():
        groups.setdefault(group, Counter())[views_of[id]] += 1
    several = sum(size for size in sizes.values() if size > 1)
    found = sum(count for group in groups.values() for count in group.values() if count > 1)
    return {
        "frames": num_frames,
        "pairs": len(leaks.near_duplicates),
        "recall": found / max(1, several),
        "CPU s": used,
        "CPU s a frame": used / num_frames,
        "wall s": seconds,
        "peak GB": peaks[-1],
        "GB on disk": disk,
    }


def bench_rows(rows: list[dict[str, Any]]) -> list[Row]:
    """Growth: CPU milliseconds of a frame, against those among the fewest frames; all pairs would grow with them."""
    few, *more = rows
    return [
        Row(
            f"search for near-duplicates among {one['frames']:,} frames",
            f"the same among {few['frames']:,} frames",
            "CPU ms a frame",
            (1e3 * one["CPU s a frame"],),
            (1e3 * few["CPU s a frame"],),
            bound=f"landmarks of every frame; all pairs would take {one['frames'] / few['frames']:.0f} times as long",
        )
        for one in more
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of looking for near-duplicates.")
    parser.add_argument("--frames", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--json", action="store_true", help="for programs")
    add_rows_option(parser)
    options = parser.parse_args()
    if not POLYPS.is_dir():
        print(f"nothing measured: there is no {POLYPS}; POLYP_DATA says where the frames are")
        return
    rows: list[dict[str, Any]] = [measure(num_frames) for num_frames in options.frames]
    save_rows(options.rows, bench_rows(rows))
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(title=f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for head in rows[0]:
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(
            *(f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" for value in row.values())
        )
    Console().print(table)


if __name__ == "__main__":
    main()
