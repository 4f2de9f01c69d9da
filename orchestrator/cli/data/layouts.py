"""`orchestrator data layouts`: published datasets that `data add` recognises."""

from __future__ import annotations

from orchestrator.cli.console.options import AsJson
from orchestrator.cli.console.printing import out, print_json, show_table


def data_layouts(as_json: AsJson = False) -> None:
    """Show the published datasets that `data add` recognises by their content: groups, centers, masks, terms of use."""
    from dataclasses import asdict

    from rich.table import Column, Table

    from orchestrator.data.published.about import ABOUT, OWN_LAYOUTS

    if as_json:
        print_json([{"name": name, **asdict(about)} for name, about in ABOUT.items()])
        return
    names = ("dataset", "groups", "centers", "masks", "terms, where stated", "--part")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for name, about in ABOUT.items():
        terms = f"{about.terms}, {about.stated}" if about.stated else about.terms
        table.add_row(name, about.groups, about.centers, about.masks, terms, about.part)
    show_table(table)
    out.print(OWN_LAYOUTS, markup=False, highlight=False)
