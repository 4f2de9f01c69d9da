"""Thresholds x reference areas on a validation set: from histograms, against the loop of the public evaluation codes.

    python tests/benchmarks/threshold_sweep.py
    python tests/benchmarks/threshold_sweep.py --cases 200 --areas 20 --json

Drawn maps with blurred polyps and false alarms, a fifth of them without a polyp; three ways to the same table of mean
Dice, at 255 thresholds and A reference areas, side by side in rounds:

loop          For every threshold and image: cut, count the overlap, compute Dice; then for every area keep or blank.
              This favours the loop: the public codes have no areas, and would run whole for each.
naive loop    The same, cutting and counting for every pair of threshold and area (timed on one area, and multiplied).
histograms    `histogram` of each map, then `sweep`.

"--filters" fills holes and drops small components in both; the loop then filters every mask by itself, with OpenCV.
The tables must agree to 1e-6, or the program raises `RuntimeError`. Nothing is asserted about time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table
from rows import Row, add_rows_option, save_rows, spread

from orchestrator.scoring.histograms import NUM_BINS, histogram_of_bins, quantize
from orchestrator.scoring.pending_cases import sweep
from orchestrator.scoring.postprocess import PostProcess

SIZE = 352
Case = tuple[np.ndarray, np.ndarray]  # probabilities (SIZE, SIZE) float32, mask (SIZE, SIZE) bool


def drawn_case(rng: np.random.Generator) -> Case:
    """A polyp that the map finds nearly, with a hole now and then, and a false alarm beside it."""
    shape, logits = (SIZE, SIZE), np.full((SIZE, SIZE), -5.0, np.float32)
    mask = np.zeros(shape, np.uint8)
    if rng.random() < 0.8:
        center, axes = rng.integers(80, SIZE - 80, 2), rng.integers(15, 70, 2)
        cv2.ellipse(mask, center.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, 1, -1)
        moved = np.roll(mask, rng.integers(-8, 9, 2), (0, 1))
        logits[moved > 0] = rng.uniform(1, 6)
        if rng.random() < 0.3:
            cv2.circle(logits, center.tolist(), int(axes.min() // 4), -3.0, -1)
    cv2.circle(logits, rng.integers(20, SIZE - 20, 2).tolist(), int(rng.integers(3, 15)), 1.0, -1)
    noise = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), 3) * 6
    blurred = cv2.GaussianBlur(logits + noise, (0, 0), 5)
    return (1 / (1 + np.exp(-blurred))).astype(np.float32), mask > 0


def dice(predicted: np.ndarray, mask: np.ndarray) -> float:
    both = np.logical_and(predicted, mask).sum()
    total = predicted.sum() + mask.sum()
    return float(2 * both / total) if total else 1.0


def filtered(predicted: np.ndarray, post: PostProcess) -> np.ndarray:
    """One mask, filtered by itself, with what OpenCV offers."""
    if post.fill_holes:
        outside = np.pad(predicted.astype(np.uint8), 1)
        cv2.floodFill(outside, None, (0, 0), 1)
        predicted = predicted | (outside[1:-1, 1:-1] == 0)
    if post.min_component_area:
        _, labels, found, _ = cv2.connectedComponentsWithStats(predicted.astype(np.uint8), connectivity=8)
        large = found[:, cv2.CC_STAT_AREA] >= post.min_component_area * predicted.size
        large[0] = False
        predicted = large[labels]
    return predicted


def loop(cases: Sequence[Case], areas: Sequence[float], post: PostProcess) -> np.ndarray:
    table = np.zeros((NUM_BINS - 1, len(areas)))
    for row in range(NUM_BINS - 1):
        for probabilities, mask in cases:
            predicted = filtered(probabilities >= (row + 1) / NUM_BINS, post)
            kept, blanked, white = dice(predicted, mask), float(not mask.any()), predicted.sum()
            for column, area in enumerate(areas):
                table[row, column] += kept if white > area * mask.size else blanked
    return table / len(cases)


def naive_loop(cases: Sequence[Case], area: float, post: PostProcess) -> np.ndarray:
    table = np.zeros(NUM_BINS - 1)
    for row in range(NUM_BINS - 1):
        for probabilities, mask in cases:
            predicted = filtered(probabilities >= (row + 1) / NUM_BINS, post)
            if predicted.sum() <= area * mask.size:
                predicted = np.zeros_like(predicted)
            table[row] += dice(predicted, mask)
    return table / len(cases)


def histograms(cases: Sequence[Case], areas: Sequence[float], post: PostProcess) -> np.ndarray:
    counted = [histogram_of_bins(post.filter(quantize(p)), mask) for p, mask in cases]
    return sweep(np.stack(counted), areas)[1:]


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def measure(options: argparse.Namespace) -> list[dict[str, float]]:
    """Seconds of every way, a round each; `RuntimeError` if the tables differ."""
    rng = np.random.default_rng(0)
    cases = [drawn_case(rng) for _ in range(options.cases)]
    areas = np.linspace(0, 0.05, options.areas).tolist()
    post = PostProcess(fill_holes=options.filters, min_component_area=0.001 * options.filters)
    rounds = []
    for _ in range(options.rounds):
        ours, table = timed(lambda: histograms(cases, areas, post))
        theirs, expected = timed(lambda: loop(cases, areas, post))
        naive, column = timed(lambda: naive_loop(cases, areas[-1], post))
        apart = max(np.abs(table - expected).max(), np.abs(table[:, -1] - column).max())
        if apart > 1e-6:
            raise RuntimeError(f"the tables differ by {apart}")
        rounds.append({"histograms": ours, "loop": theirs, "naive loop": naive * len(areas), "apart": apart})
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A sweep over thresholds and areas: histograms against loops."
    )
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--areas", type=int, default=10, help="reference areas, from 0 to 5 %% of the frame")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--filters", action="store_true", help="fill holes, drop components below 0.1 %%")
    parser.add_argument("--json", action="store_true", help="every round, for programs")
    add_rows_option(parser)
    options = parser.parse_args()
    if min(options.cases, options.areas, options.rounds) < 1:
        parser.error("--cases, --areas and --rounds need to be 1 or more")
    cv2.setNumThreads(1)
    rounds = measure(options)
    ours, theirs = (tuple(one[way] for one in rounds) for way in ("histograms", "loop"))
    what = f"sweep of 255 thresholds x {options.areas} areas over {options.cases} maps"
    bound = "reading each map once"
    save_rows(
        options.rows, [Row(what, "the loop over thresholds of public codes", "s", ours, theirs, bound=bound)]
    )
    surroundings: dict[str, Any] = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0],
        "numpy": np.__version__,
    }
    if options.json:
        print(json.dumps({**surroundings, "rounds": rounds}, indent=1))
        return
    filters = "with" if options.filters else "without"
    title = f"{options.cases} maps of {SIZE} px, 255 thresholds x {options.areas} areas, {filters} filters"
    table = Table("way", title=title)
    table.add_column("seconds, median (min to max)", justify="right", no_wrap=True)
    table.add_column("times as long as histograms", justify="right", no_wrap=True)
    for way in ("histograms", "loop", "naive loop"):
        table.add_row(
            way,
            *(
                spread([one[way] / base for one, base in zip(rounds, bases, strict=True)])
                for bases in ([1.0] * len(rounds), [one["histograms"] for one in rounds])
            ),
        )
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)
    console.print(
        f"largest difference {max(one['apart'] for one in rounds):.1e}; {surroundings}",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
