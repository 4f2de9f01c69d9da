"""`orchestrator clean`: disk space that can be freed without loss."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Cache, Home, Yes
from orchestrator.terminal.printing import agreed, megabytes, nothing_in, out, print_json


def clean(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what can be freed, but remove nothing.")
    ] = False,
    yes: Yes = False,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Free disk space: caches of removed datasets, checkpoints of ended studies, old folders of Ray, computed scores.

    All of it is made again when needed; records, weights and datasets stay. With --json, nothing is removed without
    --yes.
    """
    from orchestrator.api import disk
    from orchestrator.api.home import home_folder

    found = disk.freeable(home=home, cache=cache)
    total = sum(one.num_bytes for one in found)
    if not as_json:
        for one in found:
            out.print(f"{megabytes(one.num_bytes):>10}  {one.what}", markup=False, highlight=False)
    if not found and not as_json:
        nothing_in(home_folder(home), "nothing to free")
    does = bool(found) and not dry_run and (yes or not as_json)
    if does and not agreed(f"free {megabytes(total)}", yes=yes):
        raise typer.Exit(1)
    freed = sum(one.remove() for one in found) if does else 0
    if as_json:
        parts = [{"what": one.what, "bytes": one.num_bytes, "paths": [*map(str, one.paths)]} for one in found]
        print_json({"removed": does, "bytes": total, "freed": freed, "parts": parts})
    elif does:
        kept = (
            f"; {megabytes(total - freed)} stay: now in use, or not yours to delete" if freed < total else ""
        )
        out.print(f"freed {megabytes(freed)}{kept}", highlight=False)
    elif found:
        out.print(f"{megabytes(total)} can be freed", highlight=False)
