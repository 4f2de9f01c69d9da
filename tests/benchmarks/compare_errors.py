"""How often `compare` calls one of equal systems better, and how often it finds a difference that is there.

    python tests/benchmarks/compare_errors.py
    python tests/benchmarks/compare_errors.py --studies 500 --images 400

Each study scores 2 or 5 systems on the same five folds of single images (tests/support/null_systems.py): all equal, or
the last one better by 2 or 4 points of Dice; without chance of training, or with an SD of one point that moves every
score of a fold at once. Counted are studies in which any row says "better" (of equal systems: wrongly), by images
alone, as the verdict was before (Wilcoxon after Holm, and a plain 95 % interval without zero), and by the rule of
`compare`; and studies in which any interval of equal systems leaves zero out. Nothing is asserted;
tests/selection/test_comparison_errors.py holds a short form.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

from null_systems import systems
from rich.console import Console
from rich.table import Table

from orchestrator.scoring.statistics import paired_difference
from orchestrator.selection.comparison import VALIDATION, compare


def study(seed: int, number: int, noise: float, lead: float, num_images: int) -> tuple[bool, bool, bool]:
    """Whether some row is sure by images alone, is sure, and has an interval that leaves zero out."""
    found = systems(seed, number, noise=noise, lead=lead, num_images=num_images)
    rows = compare(found)
    by_images = False
    for other, row in zip(found[1:], rows, strict=True):
        ours, theirs = (np.array([*one.scores[VALIDATION].values()]) for one in (found[0], other))
        low, high = paired_difference(theirs, ours, [*other.group_of], num_resamples=500).interval
        by_images |= row.p_images < 0.05 and (low > 0 or high < 0)
    zero_out = any(row.interval[0] > 0 or row.interval[1] < 0 for row in rows)
    return by_images, any(row.is_sure for row in rows), zero_out


def main() -> None:
    parser = argparse.ArgumentParser(description="Errors and power of `compare` on systems that are known.")
    parser.add_argument("--studies", type=int, default=200, help="simulated studies a row")
    parser.add_argument("--images", type=int, default=900)
    options = parser.parse_args()
    if options.studies < 2 or options.images < 10:
        parser.error("--studies needs to be 2 or more, --images 10 or more")
    table = Table(
        "systems", "training noise", "true lead", title=f"{options.studies} studies a row, in percent"
    )
    for heading in ("better, images alone", "better", "zero outside an interval"):
        table.add_column(heading, justify="right")
    for number in (2, 5):
        for lead in (0.0, 0.02, 0.04):
            for noise in (0.0, 0.01):
                cell = (number, noise, lead, options.images)
                rates = np.mean([study(seed, *cell) for seed in range(options.studies)], axis=0)
                errors = np.sqrt(rates * (1 - rates) / options.studies)
                shown = [f"{100 * p:.1f} ± {100 * e:.1f}" for p, e in zip(rates, errors, strict=True)]
                table.add_row(str(number), f"{100 * noise:.0f}", f"{100 * lead:.0f}", *shown)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
