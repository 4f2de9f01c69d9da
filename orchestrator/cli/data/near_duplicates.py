"""`orchestrator data leaks`: frames that show the same place, within and between datasets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Cache, Home
from orchestrator.common.display import counted
from orchestrator.common.files import write_atomically
from orchestrator.terminal.live import CONSOLE
from orchestrator.terminal.printing import out, print_json, show_table

if TYPE_CHECKING:
    from orchestrator.data.near_duplicates.find import Leaks


def data_leaks(
    names: Annotated[list[str], typer.Argument(help="Datasets to compare.", metavar="NAME...")],
    sheet: Annotated[
        Path | None,
        typer.Option(help="PNG file with the pairs; further pages get -2, -3 in their names."),
    ] = None,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Find frames that show the same place, even mirrored or rotated: never use them for both training and testing."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from orchestrator.api import datasets as api
    from orchestrator.common.errors import BadData
    from orchestrator.data.near_duplicates.comparing import KINDS
    from orchestrator.data.near_duplicates.find import count_between
    from orchestrator.results.views.overlay import no_png

    if sheet and (problems := no_png("--sheet", sheet)):
        raise BadData("data leaks", problems)
    leaks = api.near_duplicates(*names, home=home, cache=cache, display=CONSOLE)
    groups = leaks.groups()
    drawn = _draw(leaks, sheet) if sheet else ""
    if as_json:
        print_json({"near_duplicates": [asdict(pair) for pair in leaks.near_duplicates], "groups": groups})
        return
    table = Table(title="pairs of frames that show one place", title_justify="left", box=box.SIMPLE_HEAD)
    for head in ("dataset", "with"):
        table.add_column(head)
    for head in (*KINDS, "mirrored"):
        table.add_column(head, justify="right")
    for one, other, counts, num_mirrored in count_between(leaks):
        partner = "itself" if one == other else escape(other)
        table.add_row(escape(one), partner, *map(str, (*counts, num_mirrored)))
    show_table(table)
    sizes = ", ".join(str(len(group)) for group in groups[:20])
    out.print(f"groups of two or more cases, merged across near-duplicates: {len(groups)}", highlight=False)
    if groups:
        out.print(f"cases in the largest groups: {sizes}", highlight=False)
    out.print("search, fit and data split keep such frames together; --json lists every pair")
    if drawn:
        out.print(drawn, highlight=False)


def _draw(leaks: Leaks, path: Path) -> str:
    """Write the sheets of pairs as PNG files; returns a sentence about them."""
    from orchestrator.results.views.near_duplicate_sheet import ACROSS, DOWN, pages
    from orchestrator.results.views.overlay import png

    if not leaks.near_duplicates:
        return f"no pairs: {path} is not written"
    num_pages = 0
    for num_pages, page in enumerate(pages(leaks), start=1):
        file = path if num_pages == 1 else path.with_stem(f"{path.stem}-{num_pages}")
        write_atomically(file, png(page), sync=False)
    shown = min(len(leaks.near_duplicates), num_pages * ACROSS * DOWN)
    return (
        f"{path}: {shown} of {len(leaks.near_duplicates)} pairs on {counted(num_pages, 'page')}; "
        "those between datasets first, then those with the fewest common places"
    )
