"""`orchestrator data layouts`: published datasets that `data add` recognises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.console.options import AsJson
from orchestrator.terminal.printing import out, print_json

if TYPE_CHECKING:
    from orchestrator.data.published.about import About


def data_layouts(as_json: AsJson = False) -> None:
    """Show the published datasets that `data add` recognises by their content: groups, centers, masks, terms of use."""
    from dataclasses import asdict

    from orchestrator.api.datasets import layouts
    from orchestrator.data.published.about import OWN_LAYOUTS

    if as_json:
        print_json([{"name": name, **asdict(about)} for name, about in layouts().items()])
        return
    for name, about in layouts().items():
        out.print(f"{name}: {_facts(about)}", markup=False, highlight=False)
    out.print(OWN_LAYOUTS, markup=False, highlight=False)


def _facts(about: About) -> str:
    from orchestrator.data.published.about import UNKNOWN

    terms = f"{about.terms} ({about.stated})" if about.stated else about.terms
    facts = {
        "masks": about.masks,
        "groups": about.groups,
        "centers": about.centers,
        "terms": terms,
        "--part": about.part or UNKNOWN,
    }
    return "; ".join(f"{name} {text}" for name, text in facts.items() if text != UNKNOWN)
