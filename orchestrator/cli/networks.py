"""`orchestrator models`: the networks, their size and cost, and their parameters for search spaces."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.console.options import AsJson
from orchestrator.terminal.printing import out, print_json, show_table

LISTED = (
    "name",
    "paper",
    "summary",
    "parameters",
    "trained",
    "with_statistics",
    "published",
    "published_in",
    "difference_percent",
    "gmac",
)  # by `models --json`

app = typer.Typer(help="List networks, or show one.", invoke_without_command=True)


@app.callback()
def models_list(
    context: typer.Context,
    as_json: AsJson = False,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", help="Print the table in Markdown, with the places where sizes are published."
        ),
    ] = False,
) -> None:
    """List all networks: paper, parameters, cost, and how far the size is from the published one."""
    if context.invoked_subcommand is not None:
        return
    from orchestrator.api.networks import SIDES, largest_difference, markdown_table, networks

    rows = [{key: facts[key] for key in LISTED} for facts in networks().values()]
    if as_json:
        print_json(rows)
        return
    if markdown:
        print(f"{markdown_table(rows)}\n\n{largest_difference(rows)}")
        return
    from rich import box
    from rich.table import Table

    table = Table(title="networks as published", title_justify="left", box=box.SIMPLE_HEAD)
    for head in ("name", "paper"):
        table.add_column(head, overflow="fold")
    for head in (
        "parameters",
        "trained",
        "with statistics",
        "in print",
        "difference",
        *(f"GMAC {side}" for side in SIDES),
    ):
        table.add_column(head, justify="right")
    for row in rows:
        trained = None if row["trained"] == row["parameters"] else row["trained"]
        counts = (row["parameters"], trained, row["with_statistics"], row["published"])
        table.add_row(
            row["name"],
            row["paper"],
            *("–" if count is None else f"{count:,}" for count in counts),
            "–" if row["published"] is None else f"{row['difference_percent']:+.2f} %",
            *(f"{row['gmac'][str(side)]:.2f}" for side in SIDES),
        )
    show_table(table)
    out.print(
        "trained: given where some parameters are frozen; with statistics: including BatchNorm's running means and "
        "variances, as Keras and some papers count; difference: from the size in print to the nearer of the two "
        "counts; GMAC: billions of multiply-accumulates for one square image of this side in pixels"
    )
    out.print(largest_difference(rows), highlight=False)


@app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="Network, as `orchestrator models` names it.")],
    as_json: AsJson = False,
) -> None:
    """Show a network's structure, its parameters for search spaces, and its search-space file."""
    from orchestrator.api.networks import network

    facts = network(name)
    file = facts["search_space"]
    if as_json:
        print_json(facts | {"search_space": None if file is None else str(file)})
        return
    for line in (*facts["text"].splitlines(), "", facts["paper"]):
        out.print(line, markup=False, highlight=False)
    trained = "" if facts["trained"] == facts["parameters"] else f", {facts['trained']:,} of them trained"
    out.print(
        f"\n{facts['parameters']:,} parameters{trained}, H and W multiples of {facts['stride']}",
        highlight=False,
    )
    for indent, label, kind, count in facts["outline"]:
        out.print(
            f"{'  ' * indent}{label:<{24 - 2 * indent}} {kind:<24} {count:>12,}",
            markup=False,
            highlight=False,
        )
    out.print("\nparameters that a search space can fix or search:")
    for one in facts["options"]:
        out.print(f"  {one['name']} = {one['default']}   ({one['type']})", markup=False, highlight=False)
    if file is not None:
        out.print(f"\nsearch space `{name}`, {file}:\n", highlight=False)
        out.print(file.read_text(encoding="utf-8"), markup=False, highlight=False)
