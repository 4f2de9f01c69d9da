"""Table of what tuning gained, in Markdown, from the scores that run.sh left in a folder: `python table.py FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


if __name__ == "__main__":
    print(
        "| network | seed | images of | images (groups) | baseline | tuned | difference, with interval | p |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for found in rows(Path(sys.argv[1])):
        print(line(*found))
