"""`orchestrator space`: check and describe search-space files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.options import AsJson, SpaceFile
from orchestrator.terminal.live import CONSOLE
from orchestrator.terminal.printing import out, print_json

if TYPE_CHECKING:
    from orchestrator.search.space.space import SearchSpace

NETWORK = "network"

app = typer.Typer(help="Check, combine and describe search-space files.", no_args_is_help=True)


@app.command("check")
def space_check(file: SpaceFile, as_json: AsJson = False) -> None:
    """Check a search-space file and build every network in it; show what is searched, swept and fixed."""
    from orchestrator.api import inputs

    space = inputs.check_space(file, display=CONSOLE)
    if as_json:
        print_json(_facts(space))
        return
    out.print(f"{file}: valid; network {', '.join(space.networks)}", markup=False, highlight=False)
    if not space.own:
        _describe(space, space.baseline)
        return
    first = space.baselines[0][NETWORK] if len(space.networks) > 1 else space.networks[0]
    for network in sorted(space.networks, key=lambda name: name != first):
        out.print(f"\n{network} by itself:", markup=False, highlight=False)
        _describe(space.of(network), space.baseline_of(network))


def _describe(space: SearchSpace, baseline: Mapping[str, Any]) -> None:
    out.print("searched:" if space.search else "nothing is searched: every trial is the baseline")
    for name, distribution in space.search.items():
        _line(name, f"{distribution}  (baseline {baseline.get(name)})")
    if space.sweeps:
        out.print("chosen on validation images after training, at no cost:")
    for name, (low, high) in space.sweeps.items():
        _line(name, f"{low:g} to {high:g}")
    if fixed := {name: value for name, value in space.fixed.items() if name != NETWORK}:
        out.print("fixed; anything that the file does not name has its default:")
    for name, value in fixed.items():
        _line(name, str(value))


def _line(name: str, text: str) -> None:
    out.print(f"  {name:>20}  {text}", markup=False, highlight=False)


def _facts(space: SearchSpace) -> dict[str, Any]:
    from orchestrator.search.space.effects import without_effect

    return {
        "networks": list(space.networks),
        "searched": {name: str(distribution) for name, distribution in space.search.items()},
        "swept": {name: list(ends) for name, ends in space.sweeps.items()},
        "fixed": dict(space.fixed),
        "baseline": space.baseline_params(),
        "baselines": [space.shown(one) for one in space.baselines],
        "by_network": {one.networks[0]: _facts_of(one) for one in space.members} if space.own else {},
        "without_effect": without_effect(space),
        "digest": space.digest,
    }


def _facts_of(space: SearchSpace) -> dict[str, Any]:
    return {
        "searched": {name: str(distribution) for name, distribution in space.search.items()},
        "swept": {name: list(ends) for name, ends in space.sweeps.items()},
        "fixed": dict(space.fixed),
    }


@app.command("combine")
def space_combine(
    files: Annotated[
        list[Path], typer.Argument(help="Search-space files, or names of those that come with the program.")
    ],
) -> None:
    """Combine several search spaces into one in which the network is a choice, and print it.

    What is the same in all files is written once; the rest is in tables of each network, such as [unet.search].
    """
    from orchestrator.api import inputs

    out.print(inputs.combine_spaces(*files), markup=False, highlight=False, soft_wrap=True)


@app.command("schema")
def space_schema() -> None:
    """Print the JSON Schema of search-space files, for editors."""
    from orchestrator.api import inputs

    print_json(inputs.space_schema())
