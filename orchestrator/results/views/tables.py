"""The leaderboard and the winner's scores, as tables for people and as dictionaries for programs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from orchestrator.results.views.score_lines import COLUMNS, CROSS_VALIDATION, ScoreLine, interval_text
from orchestrator.scoring.formatting import percent, points
from orchestrator.scoring.metrics import REGISTRY
from orchestrator.search.goals.model_cost import COSTS, Cost
from orchestrator.search.records.partial_score import PartialScore

if TYPE_CHECKING:
    from orchestrator.search.significance import PairedTest
    from orchestrator.selection.comparison import Comparison

# Headings of the leaderboard.
AGAIN, BOTH, CROSS_FITTED = "re-evaluation", "search and re-evaluation", "cross-fitted dice, 95 %"
LEAST_FOR_SETTINGS, LONGEST_WORD = 40, 9  # characters
MOST_LINES = 2  # for configurations next to the numbers


@dataclass(frozen=True)
class LeaderboardRow:
    """One trial as it stands."""

    number: int
    state: str  # "complete", "stopped", "failed", or "open": not over
    searched: Mapping[str, Any]  # the parameters that differ between trials
    folds_done: int
    num_folds: int
    minutes: float  # of training, over all folds, with those that were cut
    scores: Mapping[str, float] = field(
        default_factory=dict
    )  # metric -> mean; empty until all folds are done
    cross_fitted: float | None = None  # mean Dice where no fold had a say in its own threshold
    interval: tuple[float, float] | None = None  # 95 % of that; None where there is none
    threshold: float | None = None
    outside: Mapping[str, float] = field(default_factory=dict)  # "test", "CVC-ClinicDB" -> mean Dice
    error: str | None = None
    objective: float | None = None  # what the study maximises, where it is not the mean
    secondary: Mapping[str, float] = field(default_factory=dict)  # further objectives
    on_front: bool = False  # whether no trial is better in all of them
    fresh: float | None = None  # score of finalists in the re-evaluation
    both: float | None = None  # over the search and those: finalists are ranked by it
    broken: str | None = None  # which limits it exceeds, in words; it has no rank
    partial: PartialScore | None = None  # what a trial without all its folds has shown: no score
    network: str = ""


def ranked_rows(
    rows: Sequence[LeaderboardRow], metric: str = "dice"
) -> list[tuple[int | None, LeaderboardRow]]:
    """(rank, row), best first, by the study's objective; of equals the earlier trial; those without a score last.

    Finalists that were re-evaluated come first, by their score over search and re-evaluation.
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
    rows: Sequence[LeaderboardRow],
    title: str,
    metric: str = "dice",
    objective: str | None = None,
    width: int = 140,
) -> Group:
    """All trials, best first; scores in percent. `at` is the threshold, `objective` a heading where it has a column.

    Below stands what the columns are. Where `width` characters have no room for configurations next to the numbers,
    these stand below in a table of their own.
    """
    columns = _columns(rows, metric, objective)
    ranked = ranked_rows(rows, metric)
    cells = {name: [cell(rank, row) for rank, row in ranked] for name, cell in columns.items()}
    configuration = [Text(_configurations(row)) for _, row in ranked]
    later = [name for name in columns if name in ("at", "folds", "min") or _is_outside(name, rows)]
    longest = max((len(text) for text in configuration), default=0)
    if width - _taken(cells) >= max(LEAST_FOR_SETTINGS, longest / MOST_LINES):
        shown = [_board(cells, ranked, configuration, title)]
    else:
        first = {name: column for name, column in cells.items() if name not in later}
        second = {name: cells[name] for name in ("trial", *later)}
        shown = [_board(first, ranked, None, title)]
        if width - _taken(second) >= LEAST_FOR_SETTINGS:
            shown.append(_board(second, ranked, configuration))
        else:
            shown += [_board(second, ranked), _board({"trial": cells["trial"]}, ranked, configuration)]
    return Group(*shown, *(Text(line) for line in _legend(columns, metric, objective)))


def _board(
    cells: Mapping[str, Sequence[str]],
    ranked: Sequence[tuple[int | None, LeaderboardRow]],
    configurations: Sequence[Text] | None = None,
    title: str | None = None,
) -> Table:
    """Some columns of the leaderboard, and the settings if they are among them."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, column in cells.items():
        table.add_column(escape(name), justify="right", min_width=_width(name, column), overflow="fold")
    if configurations is not None:
        table.add_column("configuration", overflow="fold")
    for place, (rank, _) in enumerate(ranked):
        row = [column[place] for column in cells.values()]
        table.add_row(
            *row,
            *([] if configurations is None else [configurations[place]]),
            style="bold" if rank == 1 else None,
        )
    return table


def _taken(cells: Mapping[str, Sequence[str]]) -> int:
    return sum(_width(name, column) + 1 for name, column in cells.items())


def _width(name: str, column: Sequence[str]) -> int:
    """Room for the numbers, and for the words of the heading if these are short."""
    words = [len(word) for word in name.split() if len(word) <= LONGEST_WORD]
    return max([*map(len, column), *words], default=0)


def _is_outside(name: str, rows: Sequence[LeaderboardRow]) -> bool:
    return any(name in row.outside for row in rows)


def _columns(
    rows: Sequence[LeaderboardRow], metric: str, objective: str | None
) -> dict[str, Callable[[int | None, LeaderboardRow], str]]:
    """Heading -> function that gives the text of a cell; only columns in which some row has a value."""
    secondary = list(dict.fromkeys(name for row in rows for name in row.secondary))
    columns: dict[str, Callable[[int | None, LeaderboardRow], str]] = {
        "": lambda rank, row: "" if rank is None else str(rank),
        "trial": lambda rank, row: str(row.number),
    }
    if objective:
        columns[objective] = lambda rank, row: percent(row.objective)
    for name in secondary:
        columns[name] = lambda rank, row, name=name: secondary_text(name, row.secondary.get(name))  # type: ignore[misc]
    if secondary:
        columns["front"] = lambda rank, row: "yes" if row.on_front else ""
    for name in dict.fromkeys([metric, "dice", "iou"]):
        columns[name] = lambda rank, row, name=name: percent(row.scores.get(name))  # type: ignore[misc]
    if any(row.both is not None for row in rows):
        columns[AGAIN] = lambda rank, row: percent(row.fresh)
        columns[BOTH] = lambda rank, row: percent(row.both)
    columns[CROSS_FITTED] = lambda rank, row: _cross_fitted(row)
    columns["at"] = lambda rank, row: "–" if row.threshold is None else f"{row.threshold:.3f}"
    for name in dict.fromkeys(name for row in rows for name in row.outside):
        columns[name] = lambda rank, row, name=name: percent(row.outside.get(name))  # type: ignore[misc]
    columns["folds"] = lambda rank, row: f"{row.folds_done}/{row.num_folds}"
    columns["min"] = lambda rank, row: f"{row.minutes:.1f}"
    return columns


def _legend(columns: Collection[str], metric: str, objective: str | None) -> list[str]:
    """Legend of the columns that differ in their masks, and why these need not agree."""
    lines = [
        f"{metric}: mean over the validation images of all folds, masks at one threshold (at), the best for all of "
        "these images together; so it is a little too good.",
        f"{CROSS_FITTED.removesuffix(', 95 %')}: the same images, each fold at the threshold of the other folds; the "
        "interval is of this.",
    ]
    if AGAIN in columns:
        lines += [
            f"{AGAIN}: finalists trained again on re-drawn folds or with new seeds; at one threshold of these fits.",
            f"{BOTH}: all fits of both, at one threshold; as each of the two has its best one, this may "
            "be below either. Finalists are ranked by it.",
        ]
    ranks = objective or metric
    lines.append(f"Ranks go by {BOTH}, then by {ranks}." if AGAIN in columns else f"Ranks go by {ranks}.")
    return lines


def leaderboard_dicts(rows: Sequence[LeaderboardRow], metric: str = "dice") -> list[dict[str, Any]]:
    """The leaderboard as plain values: scores in [0, 1], and null where there is none."""
    return [
        {
            "rank": rank,
            "trial": row.number,
            "network": row.network,
            "state": row.state,
            "scores": dict(row.scores),
            "objective": row.objective,
            "secondary": dict(row.secondary),
            "on_front": row.on_front if row.secondary else None,
            "reevaluated": None if row.both is None else {"fresh": row.fresh, "both": row.both},
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
            "partial": None if row.partial is None else asdict(row.partial),
        }
        for rank, row in ranked_rows(rows, metric)
    ]


def score_table(lines: Sequence[ScoreLine], title: str, metric: str = "dice") -> Table:
    """Sets of images with their mean scores, in percent or in pixels, and the interval of `metric`."""
    names = COLUMNS if metric in COLUMNS else (*COLUMNS, metric)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("", overflow="fold", min_width=len(CROSS_VALIDATION))
    for name in ("images", *names):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column(f"95 % of {metric}", justify="right", overflow="fold", min_width=len("70.0-90.0"))
    for line in lines:
        table.add_row(
            escape(line.name),
            str(line.num_cases),
            *(_text(name, line.scores.get(name)) for name in names),
            _interval(line.interval, metric),
        )
    return table


def score_dicts(lines: Sequence[ScoreLine]) -> list[dict[str, Any]]:
    """Rows of `score_table` as plain values."""
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
        metric = REGISTRY[name]
        ends = " to ".join(metric.text(end, digits=1) for end in interval)
        unit = "pixels" if metric.unit == "pixels" else "%"
        table.add_row(name, metric.text(mean), "unknown" if _finite(interval) is None else ends, unit)
    return table


def metric_dicts(means: Mapping[str, tuple[float, tuple[float, float]]]) -> dict[str, Any]:
    """Rows of `metric_table` as plain values; an interval without information is null."""
    return {name: {"mean": mean, "interval": _finite(ends)} for name, (mean, ends) in means.items()}


def comparison_table(rows: Sequence[Comparison], title: str, width: int = 140) -> Group:
    """A row for every system and place; differences in points of a percent.

    A system, or a reference, that is the same in all rows is named in the title. Where `width` characters have no room
    for all numbers, the tests have a table of their own.
    """
    level = f"{100 * rows[0].confidence:.4g} %" if rows else "95 %"  # of each; of all together 95 %
    compared = {"system": [row.other for row in rows], "reference": [row.reference for row in rows]}
    same = [f"{role} {column[0]}" for role, column in compared.items() if len(set(column)) == 1]
    names = {"on": [row.where for row in rows]}
    names |= {role: column for role, column in compared.items() if len(set(column)) > 1}
    title = ", ".join([title, *same])
    means = {
        "images": [str(row.num_cases) for row in rows],
        "groups": [str(row.num_groups) for row in rows],
        "system %": [percent(row.other_mean) for row in rows],
        "reference %": [percent(row.reference_mean) for row in rows],
        "difference": [points(row.difference) for row in rows],
    }
    tests = {
        level: [_range(row.interval) for row in rows],
        "p images": [f"{row.p_images:.2g}" for row in rows],
        "p folds": ["–" if row.p_folds is None else f"{row.p_folds:.2g}" for row in rows],
        "p": [f"{row.p_value:.2g}" for row in rows],
    }
    is_bold = [row.is_sure for row in rows]
    if _taken(names | means | tests) <= width:
        return Group(_compared(names, means | tests, is_bold, title))
    return Group(_compared(names, means, is_bold, title), _compared(names, tests, is_bold))


def _compared(
    names: Mapping[str, Sequence[str]],
    numbers: Mapping[str, Sequence[str]],
    is_bold: Sequence[bool],
    title: str | None = None,
) -> Table:
    """Columns of names, which are folded where room is short, and of numbers, which are whole."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    for name, column in numbers.items():
        table.add_column(name, justify="right", min_width=_width(name, column))
    columns = [*(map(escape, column) for column in names.values()), *numbers.values()]
    for bold, *row in zip(is_bold, *columns, strict=True):
        table.add_row(*row, style="bold" if bold else None)
    return table


def _range(ends: tuple[float, float]) -> str:
    """The ends of an interval of a difference, as text, in percentage points."""
    return f"{points(ends[0])} to {points(ends[1])}" if math.isfinite(ends[0]) else "unknown"


def versus_table(
    rows: Sequence[PairedTest],
    winner: int,
    means: Mapping[int, float],
    metric: str,
    num_compared: int,
    line: str = CROSS_VALIDATION,
) -> Table:
    """The winner less each trial that is not significantly worse; in percent, and in points of a percent.

    `means`: number of the trial -> mean of `metric` over the validation images, as it is compared; `num_compared`:
    trials with all folds that the winner was compared with, for which p is corrected; `line`: the name of the line of
    scores that has this mean.
    """
    title = f"lead of trial {winner}, whose {metric} of {line} is {percent(means[winner])}, over other trials"
    title += f"; p corrected for the {num_compared} with all folds"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("trial", f"its {metric}", "lead", "95 %", "p images", "p folds", "p corrected"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            str(row.other),
            percent(means[row.other]),
            points(row.difference),
            _range(row.interval),
            f"{row.p_images:.2g}",
            "–" if row.p_folds is None else f"{row.p_folds:.2g}",
            f"{row.p_value:.2g}",
        )
    return table


def comparison_dicts(rows: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Rows of `comparison_table` as plain values: scores and differences in [-1, 1]."""
    return [
        {
            **asdict(row),
            "interval": _finite(row.interval),
            "is_sure": row.is_sure,
            "is_of_methods": row.is_of_methods,
        }
        for row in rows
    ]


def short(value: Any) -> str:
    """A parameter in a few characters: 0.000312, 1.2e-07, unet."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def secondary_text(name: str, value: float | None) -> str:
    """A further objective: a cost as it is, a score in percent."""
    if value is None:
        return "–"
    return Cost(name).text(value) if name in COSTS else percent(value)  # type: ignore[arg-type]


def _text(metric: str, value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else REGISTRY[metric].text(value)


def _interval(interval: tuple[float, float] | None, metric: str = "dice") -> str:
    """The interval to a tenth of a percent or pixel: finer says nothing, and the column is narrow."""
    if _finite(interval) is None:
        return interval_text(interval)
    return "-".join(REGISTRY[metric].text(end, digits=1) for end in interval or ())


def _cross_fitted(row: LeaderboardRow) -> str:
    if row.cross_fitted is None:
        return "–"
    return f"{100 * row.cross_fitted:.1f} ({_interval(row.interval)})"


def _configurations(row: LeaderboardRow) -> str:
    configuration = "  ".join(f"{name} {short(value)}" for name, value in row.searched.items())
    if row.state == "complete":
        return f"{row.broken}  {configuration}" if row.broken else configuration
    why = f": {row.error.splitlines()[0]}" if row.error else ""
    shown = f" {row.partial}" if row.partial is not None and row.state == "stopped" else ""
    return f"{row.state}{shown}{why}  {configuration}"


def _finite(interval: tuple[float, float] | None) -> list[float] | None:
    return list(interval) if interval is not None and all(map(math.isfinite, interval)) else None
