"""`orchestrator ui`: MLflow's pages, opened at the runs of a study."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, Home, TrackingUri
from orchestrator.common.display import Display
from orchestrator.terminal.printing import note, out


def ui(
    study: Annotated[
        str | None, typer.Argument(help="Name of the study. Default: the one worked on last.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the server. Default: the first free one from 5000 on."),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    home: Home = DEFAULT_HOME,
    tracking_uri: TrackingUri = None,
) -> None:
    """Open a study in MLflow: its trials by Dice, with parameters, folds and pictures.

    Starts MLflow's server on the database of the home, for this machine only, and prints the address; Ctrl-C stops it.
    If --tracking-uri names a server, opens that one instead.
    """
    from orchestrator.api import pages

    shown = Display(note=note)
    try:
        with pages.ui(study, port=port, home=home, tracking_uri=tracking_uri, display=shown) as page:
            _show(page.address, browser)
            if page.wait is not None:
                out.print("Ctrl-C ends it.")
                page.wait()
    except KeyboardInterrupt:
        out.print("MLflow's server has ended.")


def _show(page: str, browser: bool) -> None:
    out.print(page, markup=False, highlight=False, soft_wrap=True)
    if browser:
        typer.launch(page)
