"""The leaderboard as a terminal of 80 columns has room for it: the score that trials are ranked by, and what was tried.

One or two lines a trial. What all trials share stands once above the table; all scores are in `tables.leaderboard`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.results.views.tables import LeaderboardRow, ranked_rows, secondary_text, short
from orchestrator.scoring.formatting import percent

LINES = 2  # of a trial at most
LONGEST_VALUE = 24  # characters; longer ones lose their middle
GAP = 2  # characters between columns
LEAST_ROOM = 24  # characters for configurations
BOTH = "with re-evaluation"
GLUE = "\N{NO-BREAK SPACE}"
Cells = dict[str, Callable[[LeaderboardRow], str]]


def short_leaderboard(
    rows: Sequence[LeaderboardRow],
    study: str,
    metric: str = "dice",
    objective: str | None = None,
    width: int = 80,
) -> Group:
    """All trials, best first, in percent; `objective`: heading of the rank's score if not `metric`."""
    shared = _shared(rows)
    cells = _cells(rows, metric, objective)
    ranked = ranked_rows(rows, metric)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    numbers = [("", [str(rank or "") for rank, _ in ranked])]
    numbers += [(name, [cell(row) for _, row in ranked]) for name, cell in cells.items()]
    widths = [max(map(len, (*name.split(), *column, ""))) for name, column in numbers]
    for (name, _), needed in zip(numbers, widths, strict=True):
        table.add_column(name, justify="right", width=needed)
    room = max(LEAST_ROOM, width - sum(widths) - GAP * len(widths))
    table.add_column("configuration", width=room)
    for place, (rank, row) in enumerate(ranked):
        details = Text("\n".join(_details(row, shared, room)))
        table.add_row(*(column[place] for _, column in numbers), details, style="bold" if rank == 1 else None)
    above = f"{study}, scores on validation images in percent: {_counted(rows)}"
    same = [f"in all trials: {_configuration(shared).replace(GLUE, ' ')}"] if shared else []
    lines: list[str | Table] = [above, *same, "", table, "", *_below(rows, metric, objective)]
    return Group(*(Text(line) if isinstance(line, str) else line for line in lines))


def _cells(rows: Sequence[LeaderboardRow], metric: str, objective: str | None) -> Cells:
    """Heading -> function that gives the text of a row's cell."""
    cells: Cells = {"trial": lambda row: str(row.number)}
    if objective is not None:
        cells[objective] = lambda row: percent(row.objective)
    cells[metric] = lambda row: percent(row.scores.get(metric))
    if any(row.both is not None for row in rows):
        cells[BOTH] = lambda row: percent(row.both)
    for name in dict.fromkeys(name for row in rows for name in row.secondary):
        cells[name] = lambda row, name=name: secondary_text(name, row.secondary.get(name))  # type: ignore[misc]
    cells["folds"] = lambda row: f"{row.folds_done}/{row.num_folds}"
    return cells


def _shared(rows: Sequence[LeaderboardRow]) -> Mapping[str, Any]:
    """Parameters that have one value in all trials; none where there is one trial."""
    if len(rows) < 2:
        return {}
    first, *others = (row.searched for row in rows)
    return {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in others)
    }


def _configuration(params: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}{GLUE}{_value(value)}" for name, value in params.items())


def _value(value: Any) -> str:
    text, half = short(value), LONGEST_VALUE // 2
    return text if len(text) <= LONGEST_VALUE else f"{text[: half - 1]}…{text[-half:]}"


def _details(row: LeaderboardRow, shared: Mapping[str, Any], room: int) -> list[str]:
    """Configuration, and the reason for no rank, on at most LINES lines of `room` characters."""
    why = _why_unranked(row)
    tried = _configuration({name: value for name, value in row.searched.items() if name not in shared})
    configuration = _cut(tried, room, LINES - bool(why))
    return [*filter(None, configuration), *(_cut(why, room, 1) if why else [])]


def _why_unranked(row: LeaderboardRow) -> str:
    if row.broken or row.state == "complete":
        return row.broken or ""
    if row.state == "failed":
        return f"failed: {next(iter((row.error or 'unknown').splitlines()), '')}"
    if row.state != "stopped":
        return row.state
    if row.partial is None or not row.partial.folds_seen:
        return "stopped: before any fold was finished"
    return f"stopped: {percent(row.partial.dice_on_seen_folds)} on {row.partial.of_folds}"


def _cut(text: str, room: int, num_lines: int) -> list[str]:
    """`text` on `num_lines` lines at most, of `room` characters; a name stays with its value where it can."""
    lines = [line.replace(GLUE, " ") for line in wrap(text, room, drop_whitespace=True)] or [""]
    if len(lines) > num_lines:
        kept = lines[:num_lines]
        lines = [*kept[:-1], f"{kept[-1][: room - 2].rstrip()} …"]
    return lines


def _counted(rows: Sequence[LeaderboardRow]) -> str:
    states = [row.state for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    return f"{len(rows)} trial{'s'[: len(rows) != 1]}" + (f" ({counts})" if counts else "")


def _below(rows: Sequence[LeaderboardRow], metric: str, objective: str | None) -> list[str]:
    """Lines below the table: the champion's scores outside the search, and the meaning of the columns."""
    lines = [_outside(row) for row in rows if row.outside]
    lines.append(
        f"{metric}: mean over the validation images of all folds, at the threshold best for all of them."
    )
    ranks = objective or metric
    if any(row.both is not None for row in rows):
        lines.append(
            f"{BOTH}: the best trials were trained again on fresh folds or with new seeds; {metric} over the images of "
            "search and re-evaluation together, at one threshold for all of them, so it may be below either."
        )
        ranks = f"the score {BOTH}, then by {ranks}"
    if any(row.partial is not None and row.partial.folds_seen for row in rows):
        lines.append("stopped: dice on the folds that were finished; other rows are over all folds.")
    return [
        *lines,
        f"Ranks go by {ranks}. --all: every score, intervals, minutes, and why trials were stopped.",
    ]


def _outside(row: LeaderboardRow) -> str:
    scores = [
        f"{'hold-out' if name == 'test' else name} {percent(dice)}" for name, dice in row.outside.items()
    ]
    return f"trial {row.number} is the champion; its dice on images outside the search: {', '.join(scores)}"
