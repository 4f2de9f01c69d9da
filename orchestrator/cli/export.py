"""`orchestrator export verify`: whether an exported model is still the one that was exported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console.options import AsJson
from orchestrator.terminal.printing import out, print_json

app = typer.Typer(help="Check exported models.", no_args_is_help=True)


@app.callback()
def export() -> None:
    """Check exported models; `orchestrator best --export FOLDER` makes one."""


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder that `best --export` made.")], as_json: AsJson = False
) -> None:
    """Compare every file of an export with its digest in SHA256SUMS.

    If a file was changed, is missing or was added, name it and exit with code 2. `sha256sum -c SHA256SUMS` in the
    folder compares too, but does not notice added files.
    """
    from orchestrator.api import exports

    found = exports.verify_export(bundle)
    if as_json:
        print_json(found.as_dict())
    else:
        out.print(found.sentence(), markup=False, highlight=False)
