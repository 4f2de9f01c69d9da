"""How often an interval at 95 % holds the truth, on images that come in groups of unequal size.

    python tests/benchmarks/interval_coverage.py
    python tests/benchmarks/interval_coverage.py --studies 5000 --json

Each study draws groups of 1 to 40 images from a population with a known mean (tests/support/clustered.py), and asks:

groups            `cluster_interval`, which takes groups for what was drawn: the one that our tables show.
percentiles       Percentiles of the means of drawn groups, their level widened to Student's t for the effective number
                  of groups: what `cluster_interval` was before.
images            `image_interval`, which takes every image for independent.
folds             `fold_interval`: Student's t over the means of five folds that keep groups together.
folds by image    The same over five folds made image by image, as most published splits are.

A coverage below 95 % is an interval too narrow: a claim too bold. The folds here share no training, so what they cover
is the best case for them. Nothing is asserted; tests/scoring/test_statistics.py holds a short form of this.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

from clustered import LONG_ONES_LOWER, POPULATIONS, Population
from independent_intervals import fold_interval, image_interval
from rich.console import Console
from rich.table import Table
from scipy import stats

from orchestrator.scoring.statistics import cluster_interval

FOLDS = 5


def fold_means(values: np.ndarray, fold_of_value: np.ndarray) -> list[float]:
    return [float(values[fold_of_value == fold].mean()) for fold in range(FOLDS)]


def percentiles(values: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Of the means of 2000 draws of whole groups."""
    sums, sizes = np.bincount(groups, weights=values), np.bincount(groups)
    drawn = rng.integers(len(sums), size=(2000, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    effective = sizes.sum() ** 2 / (sizes**2).sum()
    tail = stats.norm.cdf(np.sqrt(effective / (effective - 1)) * stats.t.ppf(0.025, effective - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def intervals(population: Population, num_groups: int, seed: int) -> dict[str, tuple[float, float]]:
    """Every kind of interval on the data of one study."""
    rng = np.random.default_rng([seed, num_groups])
    values, groups = population.draw(rng, num_groups)
    fold_of_group = rng.permutation(np.arange(num_groups) % FOLDS)
    return {
        "groups": cluster_interval(values, list(groups), seed=seed),
        "percentiles": percentiles(values, groups.astype(int), rng),
        "images": image_interval(values, seed=seed),
        "folds": fold_interval(fold_means(values, fold_of_group[groups.astype(int)])),
        "folds by image": fold_interval(fold_means(values, rng.permutation(np.arange(len(values)) % FOLDS))),
    }


def measure(population: Population, num_groups: int, num_studies: int) -> list[dict[str, object]]:
    """Coverage, its Monte-Carlo standard error and the mean width of every kind."""
    found = [intervals(population, num_groups, seed) for seed in range(num_studies)]
    rows: list[dict[str, object]] = []
    for kind in found[0]:
        ends = np.array([one[kind] for one in found])
        covered = float(np.mean((ends[:, 0] <= population.mean) & (population.mean <= ends[:, 1])))
        rows.append(
            {
                "population": population.name,
                "groups": num_groups,
                "interval": kind,
                "coverage": covered,
                "error": float(np.sqrt(covered * (1 - covered) / num_studies)),
                "width": float(np.mean(ends[:, 1] - ends[:, 0])),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of three kinds of interval on clustered data.")
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies a cell")
    parser.add_argument("--groups", type=int, nargs="+", default=[5, 8, 12, 20, 40], help="groups a study")
    parser.add_argument("--json", action="store_true", help="every cell, for programs")
    options = parser.parse_args()
    if options.studies < 1 or min(options.groups) < FOLDS:
        parser.error(f"--studies needs to be 1 or more, --groups {FOLDS} or more")
    rows = [
        row
        for population in (*POPULATIONS, LONG_ONES_LOWER)
        for num_groups in options.groups
        for row in measure(population, num_groups, options.studies)
    ]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("population", "groups", "interval", title=f"nominal 95 %, {options.studies} studies a row")
    for heading in ("covered, %", "Monte-Carlo error", "mean width"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row["population"]),
            str(row["groups"]),
            str(row["interval"]),
            f"{100 * row['coverage']:.1f}",
            f"± {100 * row['error']:.1f}",
            f"{row['width']:.3f}",
        )
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)


if __name__ == "__main__":
    main()
