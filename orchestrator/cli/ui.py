"""`orchestrator ui`: MLflow's pages, opened at the runs of a study."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.console.options import DEFAULT_HOME, Home, TrackingUri
from orchestrator.cli.console.printing import err, out

if TYPE_CHECKING:
    from mlflow.entities import Experiment

    from orchestrator.search.store.study_store import StudyStore


def ui(
    study: Annotated[str | None, typer.Argument(help="Default: the study worked on last.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: the first free one from 5000 on.")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Whether to open the page in a browser.")
    ] = True,
    home: Home = DEFAULT_HOME,
    tracking_uri: TrackingUri = None,
) -> None:
    """Open a study in MLflow: its trials by Dice, with parameters, folds and pictures.

    Starts MLflow's server on the database of the home, for this machine alone, and prints the address; Ctrl-C ends it.
    Where --tracking-uri names a server, that one is opened.
    """
    from orchestrator.results.mlflow.client import with_credentials_apart
    from orchestrator.results.mlflow.ui.server import free_port, runs_page, serving
    from orchestrator.search.store.study_store import find_study

    found = find_study(home.expanduser().resolve(), study)
    uri = _uri(found, tracking_uri)
    experiment = _experiment(found, uri)
    if uri.startswith(("http://", "https://")):
        base = with_credentials_apart(uri)
        _show(runs_page(base, experiment.experiment_id, experiment.tags), browser)
        return
    free = free_port(port)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with serving(uri, free, Path(folder) / "mlflow.log") as server:
                page = runs_page(f"http://127.0.0.1:{free}", experiment.experiment_id, experiment.tags)
                _show(page, browser)
                out.print("Ctrl-C ends it.")
                server.wait()
        except KeyboardInterrupt:
            out.print("MLflow's server has ended.")


def _uri(found: StudyStore, tracking_uri: str | None) -> str:
    """MLflow's server or database. Raises `BadStudy` where the home has none yet."""
    from orchestrator.common.errors import BadStudy
    from orchestrator.results.mlflow.client import check_uri, default_uri
    from orchestrator.results.mlflow.ui.moved_home import mend_moved_home

    if tracking_uri is not None:
        check_uri(tracking_uri)
        return tracking_uri
    if not (found.home / "mlflow.db").exists():
        raise BadStudy(
            str(found.home), f"holds no MLflow database yet; `orchestrator sync {found.name}` makes it"
        )
    if (moved := mend_moved_home(found.home)) is not None:
        err.print(
            f"the home was at {moved[0]} when MLflow was last written: {moved[1]} addresses of pictures and models are "
            "mended",
            markup=False,
            highlight=False,
        )
    return default_uri(found.home)


def _experiment(found: StudyStore, uri: str) -> Experiment:
    """The experiment of a study. Raises `BadStudy` where MLflow has none, `BadMachine` if it does not answer."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    from orchestrator.common.errors import BadMachine, BadStudy
    from orchestrator.results.mlflow.client import connect

    try:
        experiment = connect(uri).get_experiment_by_name(found.name)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise BadMachine("MLflow", f"{uri} does not answer: {str(error).partition(chr(10))[0]}") from error
    if experiment is None:
        raise BadStudy(found.name, f"is not in MLflow at {uri}; `orchestrator sync {found.name}` writes it")
    return experiment


def _show(page: str, browser: bool) -> None:
    out.print(page, markup=False, highlight=False, soft_wrap=True)
    if browser:
        typer.launch(page)
