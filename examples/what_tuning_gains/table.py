"""Table of what tuning gained, in Markdown, from the scores that run.sh left in a folder: `python table.py FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t

Row = dict[str, Any]


def rows(folder: Path) -> Iterator[tuple[str, Row]]:
    """(study, comparison of the tuned network with the baseline), of every study that has all its scores."""
    for outside in sorted(folder.glob("*.outside.json")):
        study = outside.name.removesuffix(".outside.json")
        for row in json.loads((folder / f"{study}.validation.json").read_text()):
            yield study, row | {"where": "Kvasir-SEG, five folds"}
        for row in json.loads(outside.read_text())["compared"]:
            is_held_out = row["where"] == "Kvasir-SEG"
            yield study, row | ({"where": "Kvasir-SEG, held out"} if is_held_out else {})


def line(study: str, row: Row) -> str:
    """One line of the table: Dice in percent, differences in points with their interval."""
    network, _, seed = study.rpartition("-")
    low, high = (f"{100 * end:+.1f}" for end in row["interval"])
    cells = (
        network,
        seed,
        row["where"],
        f"{row['num_cases']} ({row['num_groups']})",
        f"{100 * row['reference_mean']:.1f}",
        f"{100 * row['other_mean']:.1f}",
        f"{100 * row['difference']:+.1f} ({low} to {high})",
        f"{row['p_value']:.2g}",
    )
    return f"| {' | '.join(cells)} |"


def mean_line(network: str, where: str, same: list[Row]) -> str:
    """Means over seeds, and a 95 % interval (t) that knows only what differs from seed to seed."""
    gains = [100 * row["difference"] for row in same]
    mean, half = fmean(gains), t.ppf(0.975, len(gains) - 1) * stdev(gains) / len(gains) ** 0.5
    before, after = (100 * fmean(row[name] for row in same) for name in ("reference_mean", "other_mean"))
    gain = f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"
    return f"| {network} | {len(same)} | {where} | {before:.1f} | {after:.1f} | {gain} |"


if __name__ == "__main__":
    found = list(rows(Path(sys.argv[1])))
    print(
        "| network | seed | images of | images (groups) | baseline | tuned | difference, with interval | p |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for study, row in found:
        print(line(study, row))
    of: dict[tuple[str, str], list[Row]] = {}
    for study, row in found:
        of.setdefault((study.rpartition("-")[0], row["where"]), []).append(row)
    means = [mean_line(*key, same) for key, same in of.items() if len(same) > 1]
    if means:
        print("\n| network | seeds | images of | baseline | tuned | difference, interval over seeds |")
        print("|---|---|---|---|---|---|", *means, sep="\n")
