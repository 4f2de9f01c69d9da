"""The leaderboard and the winner's scores, as tables for people and as dictionaries for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from orchestrator.results.card import COLUMNS, ScoreLine, interval_text, percent
from orchestrator.search.choices import CostName

if TYPE_CHECKING:
    from orchestrator.results.comparison import Comparison
    from orchestrator.results.selection import Versus

PIXEL_SCORES = ("hausdorff", "hausdorff95")


@dataclass(frozen=True)
class LeaderboardRow:
    """One trial as it stands."""

    number: int
    state: str  # "complete", "stopped", "failed", or "open": not over
    searched: Mapping[str, Any]  # the parameters that differ between trials
    folds_done: int
    num_folds: int
    minutes: float  # of training, over all folds
    scores: Mapping[str, float] = field(
        default_factory=dict
    )  # metric -> mean; empty until all folds are done
    cross_fitted: float | None = None  # mean Dice where no fold had a say in its own threshold
    interval: tuple[float, float] | None = None  # 95 % of that; None where there is none
    threshold: float | None = None
    outside: Mapping[str, float] = field(default_factory=dict)  # "test", "CVC-ClinicDB" -> mean Dice
    error: str | None = None
    objective: float | None = None  # what the study maximises, where it is not the mean
    beside: Mapping[str, float] = field(default_factory=dict)  # further objectives
    on_front: bool = False  # whether no trial is better in all of them
    fresh: float | None = None  # what finalists have shown in the second scoring
    both: float | None = None  # over the search and those: finalists are ranked by it
    broken: str | None = None  # which limits it exceeds, in words; it has no rank


def ranked_rows(
    rows: Sequence[LeaderboardRow], metric: str = "dice"
) -> list[tuple[int | None, LeaderboardRow]]:
    """(rank, row), best first, by the study's objective; of equals the earlier trial; those without a score last.

    Finalists that were scored again come first, by both scorings.
    """

    def place(row: LeaderboardRow) -> tuple[bool, float, float, int]:
        worth = row.scores[metric] if row.objective is None else row.objective
        return row.both is None, -(row.both or 0.0), -worth, row.number

    scored = sorted((row for row in rows if metric in row.scores and not row.broken), key=place)
    others = sorted(
        (row for row in rows if metric not in row.scores or row.broken), key=lambda row: row.number
    )
    return [*enumerate(scored, start=1), *((None, row) for row in others)]


def leaderboard(
    rows: Sequence[LeaderboardRow], title: str, metric: str = "dice", objective: str | None = None
) -> Table:
    """All trials, best first; scores in percent. `at` is the threshold, `objective` a heading where it has a column.

    Trials are ranked by the masks of one threshold, the best for all images; the interval is of what they score where
    each fold takes the threshold of the others. Dice on the test and on unseen datasets stands beside, and so does that
    of finalists that were scored again: in that scoring, and over both. On a narrow terminal headings and
    settings wrap, numbers do not.
    """
    metrics = list(dict.fromkeys([metric, "dice", "iou"]))
    beside = list(dict.fromkeys(name for row in rows for name in row.beside))
    outside = list(dict.fromkeys(name for row in rows for name in row.outside))
    again = ["again", "both"] if any(row.both is not None for row in rows) else []
    heads = [
        "",
        "trial",
        *([objective] if objective else []),
        *beside,
        *(["front"] if beside else []),
        *metrics,
        *again,
        "cross-fitted dice, 95 %",
        "at",
        *outside,
        "folds",
        "min",
    ]
    ranked = ranked_rows(rows, metric)
    numbers = [_numbers(rank, row, metrics, outside, objective, beside, bool(again)) for rank, row in ranked]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, name in enumerate(heads):
        width = max((len(cells[place]) for cells in numbers), default=0)
        table.add_column(escape(name), justify="right", min_width=width, overflow="fold")
    table.add_column("settings", overflow="fold")
    for (rank, row), cells in zip(ranked, numbers, strict=True):
        table.add_row(*cells, Text(_settings(row)), style="bold" if rank == 1 else None)
    return table


def leaderboard_dicts(rows: Sequence[LeaderboardRow], metric: str = "dice") -> list[dict[str, Any]]:
    """The same as plain values: scores in [0, 1], and null where there is none."""
    return [
        {
            "rank": rank,
            "trial": row.number,
            "state": row.state,
            "scores": dict(row.scores),
            "objective": row.objective,
            "beside": dict(row.beside),
            "on_front": row.on_front if row.beside else None,
            "scored_again": None if row.both is None else {"fresh": row.fresh, "both": row.both},
            "broken": row.broken,
            "cross_fitted": row.cross_fitted,
            "interval": _finite(row.interval),
            "threshold": row.threshold,
            "outside": dict(row.outside),
            "searched": dict(row.searched),
            "folds_done": row.folds_done,
            "num_folds": row.num_folds,
            "minutes": row.minutes,
            "error": row.error,
        }
        for rank, row in ranked_rows(rows, metric)
    ]


def score_table(lines: Sequence[ScoreLine], title: str) -> Table:
    """The winner: its folds, all of them together, then the test and the unseen datasets; in percent."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    for name in ("images", *COLUMNS):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("95 % of dice", justify="right", overflow="fold", min_width=len("70.0-90.0"))
    for line in lines:
        table.add_row(
            escape(line.name),
            str(line.num_cases),
            *(_percent(line.scores.get(name)) for name in COLUMNS),
            _interval(line.interval),
        )
    return table


def score_dicts(lines: Sequence[ScoreLine]) -> list[dict[str, Any]]:
    """The same as plain values."""
    return [
        {
            "name": line.name,
            "num_cases": line.num_cases,
            "scores": dict(line.scores),
            "interval": _finite(line.interval),
        }
        for line in lines
    ]


def metric_table(means: Mapping[str, tuple[float, tuple[float, float]]], title: str) -> Table:
    """Mean over images and its 95 % interval, a row a score: shares in percent, distances in pixels."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("score", "mean", "95 %", "unit"):
        table.add_column(name, justify="left" if name in ("score", "unit") else "right")
    for name, (mean, interval) in means.items():
        in_pixels = name in PIXEL_SCORES
        factor, unit = (1, "pixels") if in_pixels else (100, "%")
        ends = (
            "unknown" if _finite(interval) is None else " to ".join(f"{factor * end:.1f}" for end in interval)
        )
        table.add_row(name, f"{factor * mean:.2f}", ends, unit)
    return table


def metric_dicts(means: Mapping[str, tuple[float, tuple[float, float]]]) -> dict[str, Any]:
    """The same as plain values; an interval that says nothing is null."""
    return {name: {"mean": mean, "interval": _finite(ends)} for name, (mean, ends) in means.items()}


def comparison_table(rows: Sequence[Comparison], title: str) -> Table:
    """A row for every contender and place; differences in points of a percent."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("on", "system", "reference"):
        table.add_column(name, overflow="fold")
    for name in ("images", "groups", "system %", "reference %", "difference", "95 %", "p images", "p folds"):
        table.add_column(name, justify="right")
    for row in rows:
        low, high = (100 * end for end in row.interval)
        table.add_row(
            *map(escape, (row.where, row.other, row.reference)),
            *map(str, (row.num_cases, row.num_groups)),
            *(_percent(mean) for mean in (row.other_mean, row.reference_mean)),
            f"{100 * row.difference:+.2f}",
            f"{low:+.2f} to {high:+.2f}" if math.isfinite(low) else "unknown",
            f"{row.p_images:.2g}",
            "–" if row.p_folds is None else f"{row.p_folds:.2g}",
            style="bold" if row.is_sure else None,
        )
    return table


def versus_table(rows: Sequence[Versus]) -> Table:
    """The winner less each trial that cannot be told from it; in points of a percent."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("trial", "winner's lead", "95 %", "p images", "p folds", "p corrected"):
        table.add_column(name, justify="right")
    for row in rows:
        low, high = (100 * end for end in row.interval)
        table.add_row(
            str(row.other),
            f"{100 * row.difference:+.2f}",
            f"{low:+.2f} to {high:+.2f}" if math.isfinite(low) else "unknown",
            f"{row.p_images:.2g}",
            "–" if row.p_folds is None else f"{row.p_folds:.2g}",
            f"{row.p_value:.2g}",
        )
    return table


def comparison_dicts(rows: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The same as plain values: scores and differences in [-1, 1]."""
    return [{**asdict(row), "interval": _finite(row.interval), "is_sure": row.is_sure} for row in rows]


def short(value: Any) -> str:
    """A parameter in a few characters: 0.000312, 1.2e-07, unet."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _percent(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _numbers(
    rank: int | None,
    row: LeaderboardRow,
    metrics: Sequence[str],
    outside: Sequence[str],
    objective: str | None,
    beside: Sequence[str],
    again: bool,
) -> list[str]:
    return [
        "" if rank is None else str(rank),
        str(row.number),
        *([_percent(row.objective)] if objective else []),
        *(beside_text(name, row.beside.get(name)) for name in beside),
        *(["yes" if row.on_front else ""] if beside else []),
        *(_percent(row.scores.get(name)) for name in metrics),
        *([_percent(row.fresh), _percent(row.both)] if again else []),
        _cross_fitted(row),
        "–" if row.threshold is None else f"{row.threshold:.3f}",
        *(_percent(row.outside.get(name)) for name in outside),
        f"{row.folds_done}/{row.num_folds}",
        f"{row.minutes:.1f}",
    ]


def beside_text(name: str, value: float | None) -> str:
    """A further objective: a cost as it is, a score in percent."""
    if value is None:
        return "–"
    if name == "parameters":
        return f"{value:,.0f}"
    return f"{value:.3g}" if name in get_args(CostName) else percent(value)


def _interval(interval: tuple[float, float] | None) -> str:
    """To a tenth of a percent: finer says nothing, and the column is narrow."""
    if _finite(interval) is None:
        return interval_text(interval)
    return "-".join(f"{100 * end:.1f}" for end in interval or ())


def _cross_fitted(row: LeaderboardRow) -> str:
    if row.cross_fitted is None:
        return "–"
    return f"{100 * row.cross_fitted:.1f} ({_interval(row.interval)})"


def _settings(row: LeaderboardRow) -> str:
    settings = "  ".join(f"{name} {short(value)}" for name, value in row.searched.items())
    if row.state == "complete":
        return f"{row.broken}  {settings}" if row.broken else settings
    why = f": {row.error.splitlines()[0]}" if row.error else ""
    return f"{row.state}{why}  {settings}"


def _finite(interval: tuple[float, float] | None) -> list[float] | None:
    return list(interval) if interval is not None and all(map(math.isfinite, interval)) else None
