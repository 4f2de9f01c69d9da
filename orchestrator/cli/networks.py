"""`orchestrator models`: the networks, their size and cost, and their parameters for search spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.options import AsJson
from orchestrator.cli.console.printing import out, print_json

if TYPE_CHECKING:
    from torch import nn

SIDES = (256, 352)  # pixels: input sides in the papers
OUTLINE_DEPTH = 2

app = typer.Typer(help="Networks: list them, show one.", invoke_without_command=True)


@app.callback()
def models_list(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every network: paper, parameters, cost, and the published size."""
    if context.invoked_subcommand is not None:
        return
    from orchestrator import models

    rows = [_facts(name) for name in models.names()]
    if as_json:
        print_json(rows)
        return
    from rich import box
    from rich.table import Table

    table = Table(title="networks as published", title_justify="left", box=box.SIMPLE_HEAD)
    for head in ("name", "paper"):
        table.add_column(head, overflow="fold")
    for head in ("parameters", "with statistics", "published", *(f"GMAC {side}" for side in SIDES)):
        table.add_column(head, justify="right")
    for row in rows:
        counts = (row["parameters"], row["with_statistics"], row["published"])
        table.add_row(
            row["name"],
            row["paper"],
            *("–" if count is None else f"{count:,}" for count in counts),
            *(f"{row['gmac'][str(side)]:.2f}" for side in SIDES),
        )
    out.print(table)
    out.print(
        "with statistics: including BatchNorm's running means and variances, as Keras and some papers count"
    )


@app.command("show")
def models_show(name: Annotated[str, typer.Argument(help="A network of `orchestrator models`.")]) -> None:
    """Show a network's structure, its parameters for search spaces, and its search-space file."""
    import inspect

    from orchestrator import models
    from orchestrator.common.errors import BadSpace
    from orchestrator.common.names import hint
    from orchestrator.models.cost import on_meta
    from orchestrator.search.space.shipped import shipped_file

    if name not in models.names():
        known = models.names()
        raise BadSpace(name, f"no network is named {name!r}; {hint(name, known)}known: {', '.join(known)}")
    network = on_meta(name)
    facts = _facts(name, network)
    text = inspect.getdoc(inspect.getmodule(type(network))) or models.summary(name)
    for line in (*text.splitlines(), "", facts["paper"]):
        out.print(line, markup=False, highlight=False)
    out.print(
        f"\n{facts['parameters']:,} parameters, H and W multiples of {models.stride(name)}", highlight=False
    )
    for indent, label, kind, count in _outline(network):
        out.print(
            f"{'  ' * indent}{label:<{24 - 2 * indent}} {kind:<24} {count:>12,}",
            markup=False,
            highlight=False,
        )
    out.print("\nparameters that a search space can fix or search:")
    for parameter in models.params(name).values():
        kind = inspect.formatannotation(parameter.annotation).replace("typing.", "")
        out.print(f"  {parameter.name} = {parameter.default!r}   ({kind})", markup=False, highlight=False)
    if (file := shipped_file(name)) is not None:
        out.print(f"\nsearch space `{name}`, {file}:\n", highlight=False)
        out.print(file.read_text(encoding="utf-8"), markup=False, highlight=False)


def _facts(name: str, network: nn.Module | None = None) -> dict[str, Any]:
    from orchestrator import models
    from orchestrator.models.cost import multiply_accumulates, on_meta, size

    network = network or on_meta(name)
    counted = size(network)
    return {
        "name": name,
        "paper": models.paper(name),
        "summary": models.summary(name),
        "parameters": counted.learnable,
        "with_statistics": counted.learnable + counted.statistics,
        "published": models.published(name),
        "gmac": {str(side): multiply_accumulates(network, side, side) / 1e9 for side in SIDES},
    }


def _outline(network: nn.Module, depth: int = 0) -> list[tuple[int, str, str, int]]:
    """(indent, name, class, parameters) of a network's modules that have parameters, to depth OUTLINE_DEPTH."""
    lines = []
    for name, child in network.named_children():
        count = sum(parameter.numel() for parameter in child.parameters())
        if count:
            lines.append((depth, name, type(child).__name__, count))
            if depth + 1 < OUTLINE_DEPTH:
                lines += _outline(child, depth + 1)
    return lines
