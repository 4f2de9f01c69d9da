"""`orchestrator models`: the networks, their size and cost, and their parameters for search spaces.

To build and count all networks takes ten seconds of CPU time. models/facts.json has what was found, and is read as long
as the source of the networks is the one it was made of: `make network-facts` makes it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.options import AsJson
from orchestrator.cli.console.printing import out, print_json, show_table

if TYPE_CHECKING:
    from torch import nn

SIDES = (256, 352)  # pixels: input sides in the papers
OUTLINE_DEPTH = 2
MODELS = Path(__file__).parents[1] / "models"
LISTED = (
    "name",
    "paper",
    "summary",
    "parameters",
    "trained",
    "with_statistics",
    "published",
    "gmac",
)  # by `models --json`

app = typer.Typer(help="Networks: list them, show one.", invoke_without_command=True)


@app.callback()
def models_list(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every network: paper, parameters, cost, and the published size."""
    if context.invoked_subcommand is not None:
        return
    rows = [{key: facts[key] for key in LISTED} for facts in all_facts().values()]
    if as_json:
        print_json(rows)
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
        "published",
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
            *(f"{row['gmac'][str(side)]:.2f}" for side in SIDES),
        )
    show_table(table)
    out.print(
        "trained: where some parameters are frozen; "
        "with statistics: including BatchNorm's running means and variances, as Keras and some papers count; "
        "GMAC: billions of multiply-accumulates for one image of so many pixels a side"
    )


@app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="A network of `orchestrator models`.")], as_json: AsJson = False
) -> None:
    """Show a network's structure, its parameters for search spaces, and its search-space file."""
    from orchestrator.common.errors import BadSpace
    from orchestrator.common.names import hint
    from orchestrator.search.space.shipped import shipped_file

    known = all_facts()
    if name not in known:
        raise BadSpace(name, f"no network is named {name!r}; {hint(name, known)}known: {', '.join(known)}")
    facts, file = known[name], shipped_file(name)
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


def all_facts() -> dict[str, dict[str, Any]]:
    """Facts of every network by its name: read where they are of this source, else counted now."""
    try:
        stored = json.loads((MODELS / "facts.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        stored = {}
    if stored.get("source") == source_digest():
        return {facts["name"]: facts for facts in stored["networks"]}
    from orchestrator import models

    return {name: facts_of(name) for name in models.names()}


def source_digest() -> str:
    """SHA-256 of the modules of the networks, names included."""
    digest = hashlib.sha256()
    for file in sorted(MODELS.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def facts_of(name: str) -> dict[str, Any]:
    """What is said of a network, counted on a network that is built for it."""
    import inspect

    from orchestrator import models
    from orchestrator.models.cost import multiply_accumulates, on_meta, size

    network = on_meta(name)
    counted = size(network)
    return {
        "name": name,
        "paper": models.paper(name),
        "summary": models.summary(name),
        "parameters": counted.learnable,
        "trained": counted.trained,
        "with_statistics": counted.learnable + counted.statistics,
        "published": models.published(name),
        "gmac": {str(side): multiply_accumulates(network, side, side) / 1e9 for side in SIDES},
        "text": inspect.getdoc(inspect.getmodule(type(network))) or models.summary(name),
        "stride": models.stride(name),
        "outline": _outline(network),
        "options": [
            {
                "name": one.name,
                "default": repr(one.default),
                "type": inspect.formatannotation(one.annotation).replace("typing.", ""),
            }
            for one in models.params(name).values()
        ],
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


def write_facts() -> None:
    """Count all networks, and keep what was found."""
    from orchestrator import models

    found = {"source": source_digest(), "networks": [facts_of(name) for name in models.names()]}
    (MODELS / "facts.json").write_text(f"{json.dumps(found, indent=1)}\n", "utf-8")
