"""`orchestrator data leaks`: frames that show the same place, within and between datasets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Cache, Home
from orchestrator.cli.screen import bar, out, print_json


def data_leaks(
    names: Annotated[list[str], typer.Argument(help="Datasets to compare.", metavar="NAME...")],
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Look for frames that show the same place: what must not be trained on and tested on. Minutes, once."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from orchestrator.data.cases import load_datasets
    from orchestrator.data.leaks import count_between, find_twins

    home = home.expanduser().resolve()
    with bar("comparing frames") as on_progress:
        leaks = find_twins(load_datasets(home, names), cache or home / "cache", on_progress)
    groups = leaks.groups()
    if as_json:
        print_json({"twins": [asdict(twin) for twin in leaks.twins], "groups": groups})
        return
    table = Table(title="pairs that show one place", title_justify="left", box=box.SIMPLE_HEAD)
    for head in ("dataset", "with"):
        table.add_column(head)
    for head in ("same frame", "same scene"):
        table.add_column(head, justify="right")
    for one, other, frames, scenes in count_between(leaks):
        table.add_row(escape(one), "itself" if one == other else escape(other), str(frames), str(scenes))
    out.print(table)
    sizes = ", ".join(str(len(group)) for group in groups[:20])
    out.print(f"groups of two or more, by their own groups and by twins: {len(groups)}", highlight=False)
    if groups:
        out.print(f"cases in the largest: {sizes}", highlight=False)
    out.print("`--twins` of search, fit and data split keeps such frames together; --json lists every pair")
