"""The papers and their tables, as a list; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from orchestrator.protocols.protocol import Protocol


def papers_table(papers: Mapping[str, Any]) -> Table:
    """List of every table of every paper, by the names for the command line; `papers`: from `papers_dict`."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("paper", "table", "networks", "what"):
        table.add_column(name, no_wrap=name != "what", justify="right" if name == "networks" else "left")
    for name, paper in papers.items():
        for place, (number, one) in enumerate(paper["tables"].items()):
            table.add_row(name if place == 0 else "", number, str(one["published"]), one["caption"])
    return table


def papers_dict(protocols: Sequence[Protocol]) -> dict[str, Any]:
    """Papers and tables as plain values; `published`: number of rows of a table that the paper prints."""
    return {
        one.name: {
            "title": one.title,
            "citation": one.citation,
            "tables": {
                name: {
                    "caption": table.caption,
                    "rows": list(one.rows_of(table)),
                    "published": sum(row in table.published for row in one.rows_of(table)),
                    "data": list(table.datasets),
                }
                for name, table in one.tables.items()
            },
        }
        for one in protocols
    }
