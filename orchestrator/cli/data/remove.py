"""`orchestrator data remove`: delete a dataset that no study needs."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Cache, Home, Yes
from orchestrator.common.display import counted
from orchestrator.terminal.printing import agreed, megabytes, out, print_json


def data_remove(
    name: Annotated[str, typer.Argument(help="Dataset, as `orchestrator data list` names it.")],
    yes: Yes = False,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Delete a dataset with its images and masks; refused while a study of this home needs it or a search reads it.

    `orchestrator clean` frees what is cached of it.
    """
    from orchestrator.api import datasets as api
    from orchestrator.api.home import cache_folder, home_folder
    from orchestrator.study.housekeeping import refuse_needed, size_of

    dataset, home = api.dataset(name, home=home), home_folder(home)
    refuse_needed(home, name, cache_folder(cache, home))
    num_bytes = size_of(dataset.folder)
    if not agreed(
        f"remove dataset {name}, {counted(len(dataset.cases), 'case')}, {megabytes(num_bytes)}", yes=yes
    ):
        raise typer.Exit(1)
    api.remove_dataset(name, home=home, cache=cache)
    if as_json:
        print_json({"dataset": name, "bytes": num_bytes, "folder": str(dataset.folder)})
    else:
        out.print(f"removed dataset {name}, {megabytes(num_bytes)}", markup=False, highlight=False)
