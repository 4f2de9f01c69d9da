"""A row of BENCHMARKS.md: a ratio between ours and a named alternative that does the same work, taken side by side."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """Values of both in the rounds in which they took turns, all in `unit`; an alternative without values was not at
    hand, and `bound` says why.
    """

    what: str
    against: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...] = ()
    is_rate: bool = False  # more is better: images a second
    bound: str = ""  # what bounds the figure, how far off it is, how both were seen to do the same work

    @property
    def ratios(self) -> list[float]:
        """How many times as good ours is as the alternative, by round; empty without an alternative."""
        pairs = zip(self.ours, self.theirs, strict=False)
        return [ours / theirs if self.is_rate else theirs / ours for ours, theirs in pairs]


def add_rows_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=Path, help="write the rows of BENCHMARKS.md to this file, as JSON")


def save_rows(path: Path | None, rows: Iterable[Row]) -> None:
    """Nothing without a path."""
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def load_rows(path: Path) -> list[Row]:
    return [
        Row(**{**row, "ours": tuple(row["ours"]), "theirs": tuple(row["theirs"])})
        for row in json.loads(path.read_text())
    ]


def spread(values: Sequence[float]) -> str:
    """Median (min to max), with three digits; a single value by itself; a dash for none."""
    if not values:
        return "–"
    median, low, high = (_short(value) for value in (statistics.median(values), min(values), max(values)))
    return median if len(values) == 1 or low == high else f"{median} ({low} to {high})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
