"""A table as text for a terminal: its plan, and its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.common.display import counted
from orchestrator.protocols.outcome.measured import Cell
from orchestrator.protocols.outcome.results_file import ASSUMPTION, number_text, short_error
from orchestrator.protocols.plan import TablePlan


def plan_lines(plan: TablePlan, num_open: int, estimate: str) -> Iterator[str]:
    """Data, test images, fits and differences to the paper of a planned table, as lines of text."""
    yield f"{plan.title}: {plan.table.caption}"
    if plan.split is not None:
        yield f"  --scale {plan.scale_name}: {plan.scale.about}"
    for wanted, one in plan.taken.items():
        yield f"  data  {wanted}: {one.dataset.name}, {counted(len(one.dataset.cases), 'image')}"
    for test, images in plan.images.items():
        yield f"  tested on {images.number:,} images of {images.dataset.name} ({test})"
    if plan.split is not None:
        num_folds, num_seeds = len(plan.split.folds), plan.wishes.num_seeds
        yield (
            f"  {counted(len(plan.rows), 'row')}, {counted(num_seeds, 'seed')}, {counted(num_folds, 'fold')}: "
            f"{counted(plan.num_fits, 'fit')}, of which {plan.num_fits - num_open} on record; {estimate}"
        )
    else:
        yield f"  {counted(len(plan.rows), 'row')}; nothing is trained"
    if differences := plan.differences():
        yield "  what differs from the paper:"
        yield from (f"  - {line}" for line in differences)


def plan_dict(plan: TablePlan) -> dict[str, Any]:
    """Data, test images, fits and differences to the paper of a planned table, as plain values for JSON."""
    return {
        "title": plan.title,
        "scale": plan.scale_name,
        "datasets": {wanted: one.dataset.name for wanted, one in plan.taken.items()},
        "missing": list(plan.missing),
        "images": {test: one.number for test, one in plan.images.items()},
        "rows": [row.name for row in plan.rows],
        "fits": plan.num_fits,
        "differences_to_the_paper": list(plan.differences()),
    }


def result_view(plain: Mapping[str, Any]) -> Group:
    """Published and measured numbers side by side, a table for each test set."""
    parts: list[RenderableType] = [Text(f"{plain['title']}, --scale {plain['scale']}", style="bold")]
    for one in plain["sets"]:
        parts += [Text(""), _set_table(one, plain["columns"])]
    if plain["published_differences"]:
        parts += [Text(""), *_differences(plain["published_differences"])]
    return Group(*parts)


def _set_table(one: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]) -> Table:
    images = f", {one['images']:,} images" if one["images"] else ""
    table = Table(
        title=f"{one['shown']}{images}",
        title_justify="left",
        title_style="",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    table.add_column("network", no_wrap=True)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column["name"], justify="right")
    for row in one["rows"]:
        cells = [Cell(**cell) for cell in row["cells"]]
        published = ["" if cell.published is None else number_text(cell.published) for cell in cells]
        here = "here" if row["error"] is None else f"failed: {short_error(row['error'])}"
        name = row["name"]
        if any(published):
            table.add_row(name, "published", *published, style="dim")
            name = ""
        table.add_row(name, here, *map(_short, cells))
        if row["tuned"] is not None:
            table.add_row("", "tuned", *(_short(Cell(**cell)) for cell in row["tuned"]))
    return table


def _short(cell: Cell) -> str:
    """Text of the measured number with half of its interval, short enough for eight columns on a page."""
    if cell.measured is None or cell.measured != cell.measured:
        return "-"
    text = number_text(cell.measured)
    if cell.interval is None:
        return text
    return f"{text} ±{(cell.interval[1] - cell.interval[0]) / 2:.2f}"


def _differences(found: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in (
        "test set",
        "rows",
        "published",
        "images",
        "largest half-width",
        "half-width here",
        "larger?",
    ):
        table.add_column(name, justify="left" if name in ("test set", "rows", "larger?") else "right")
    for one in found:
        table.add_row(
            one["test"],
            f"{one['better']} - {one['worse']}",
            f"{one['difference']:.4f}",
            str(one["num_images"]),
            *("" if one[key] is None else f"{one[key]:.4f}" for key in ("largest_half_width", "half_width")),
            one["why"],
        )
    return [
        Text("which published differences survive their own intervals?"),
        Text(ASSUMPTION, style="dim"),
        table,
    ]
