"""`orchestrator sync`: what a study's sinks lack is written from its records, without a search."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, Home, TrackingUri
from orchestrator.terminal.printing import out


def sync(
    study: Annotated[str | None, typer.Argument(help="Default: the study worked on last.")] = None,
    home: Home = DEFAULT_HOME,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write what MLflow, or the CSV files, lack of a study, from its records on disk.

    For a server that was away when the search ended, or another one. Nothing is trained, and nothing written twice.
    Exit code 2 if the server does not answer.
    """
    from orchestrator.api import studies

    for line in studies.sync(study, home=home, tracking_uri=tracking_uri).lines():
        out.print(line, markup=False, highlight=False)
