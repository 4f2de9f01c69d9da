"""`orchestrator sync`: write the results that a study's sinks lack from its records, without a search."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, AsJson, Home, TrackingUri
from orchestrator.terminal.printing import out, print_json


def sync(
    study: Annotated[
        str | None, typer.Argument(help="Name of the study. Default: the one worked on last.")
    ] = None,
    home: Home = DEFAULT_HOME,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Write to MLflow or the CSV files what they lack of a study, from its records on disk.

    For a server that was unreachable when the search ended, or for another one. Nothing is trained, and nothing is
    written twice. The exit code is 2 if the server does not answer.
    """
    from orchestrator.api import studies

    synced = studies.sync(study, home=home, tracking_uri=tracking_uri)
    if as_json:
        print_json(synced.as_dict())
        return
    for line in synced.lines():
        out.print(line, markup=False, highlight=False)
