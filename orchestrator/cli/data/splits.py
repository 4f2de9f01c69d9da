"""`orchestrator data split`: the folds of datasets, without a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console.options import (
    DEFAULT_HOME,
    AsJson,
    Cache,
    Holdout,
    Home,
    NearDuplicates,
    Seed,
    Splits,
    Unseen,
)
from orchestrator.terminal.live import CONSOLE
from orchestrator.terminal.printing import err, out, print_json, show_table


def data_split(
    names: Annotated[list[str], typer.Argument(help="Datasets to train on.", metavar="NAME...")],
    splits: Splits = "five-fold",
    unseen: Unseen = None,
    holdout: Holdout = 0.1,
    seed: Seed = 0,
    near_duplicates: NearDuplicates = True,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="JSON file to write, for --splits of other commands.")
    ] = None,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Split datasets without a study: show every fold, and write a file for studies and papers."""
    from orchestrator.api import inputs
    from orchestrator.results.views.split_table import split_table

    found = inputs.split(
        names,
        splits=splits,
        unseen=unseen or (),
        holdout=holdout,
        seed=seed,
        near_duplicates=near_duplicates,
        home=home,
        cache=cache,
        display=CONSOLE,
    )
    if line := found.warning():
        err.print(f"warning: {line}", highlight=False, markup=False)
    if out_file is not None:
        found.write(out_file)
    if as_json:
        print_json(found.as_dict())
    else:
        show_table(split_table(found.plan, found.parts))
        for line in found.lines():
            out.print(line, highlight=False)
    if out_file is not None:
        (err if as_json else out).print(f"written to {out_file}", highlight=False)
