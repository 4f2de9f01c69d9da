"""The papers and their tables, as a list; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from orchestrator.protocols.protocol import Protocol


def papers_table(protocols: Sequence[Protocol]) -> Table:
    """Every table of every paper, as it is typed."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("paper", "table", "networks", "what"):
        table.add_column(name, no_wrap=name != "what", justify="right" if name == "networks" else "left")
    for protocol in protocols:
        for place, (name, one) in enumerate(protocol.tables.items()):
            published = [row for row in protocol.rows_of(one) if row in one.published]
            shown = protocol.name if place == 0 else ""
            table.add_row(shown, name, str(len(published)), one.caption)
    return table


def papers_dict(protocols: Sequence[Protocol]) -> dict[str, Any]:
    """The same as plain values."""
    return {
        one.name: {
            "title": one.title,
            "citation": one.citation,
            "tables": {
                name: {
                    "caption": table.caption,
                    "rows": list(one.rows_of(table)),
                    "data": list(table.datasets),
                }
                for name, table in one.tables.items()
            },
        }
        for one in protocols
    }
