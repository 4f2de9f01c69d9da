"""`orchestrator space`: check and describe search-space files."""

from __future__ import annotations

from pathlib import Path

import typer

from orchestrator.cli.console.printing import out, print_json

app = typer.Typer(help="Search-space files: check, describe.", no_args_is_help=True)


@app.command("check")
def space_check(file: Path) -> None:
    """Check a search-space file and build every network in it."""
    from orchestrator.search.space.builds import check_builds
    from orchestrator.search.space.space_file import load_space

    space = load_space(file)
    check_builds(space)
    out.print(f"{file}: valid; network {', '.join(space.networks)}")
    for name, distribution in space.search.items():
        out.print(f"  {name:>16}  {distribution}  (baseline {space.baseline.get(name)})", highlight=False)


@app.command("schema")
def space_schema() -> None:
    """Print the JSON Schema of search-space files, for editors."""
    from orchestrator.search.space.schema import json_schema

    print_json(json_schema())
