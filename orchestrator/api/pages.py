"""MLflow's pages of a study, served on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.api.home import PathLike, home_folder
from orchestrator.common.errors import python_errors

if TYPE_CHECKING:
    from mlflow.entities import Experiment

    from orchestrator.common.display import Display
    from orchestrator.search.store.study_store import StudyStore


@dataclass(frozen=True)
class Page:
    """Address of the page of a study's trials in MLflow, and the wait for the end of its server."""

    address: str
    wait: (
        Callable[[], object] | None
    )  # for the end of the server that was started for it; None: another one serves it


@contextmanager
def ui(
    study: str | None = None,
    *,
    port: int | None = None,
    home: PathLike | None = None,
    tracking_uri: str | None = None,
    display: Display | None = None,
) -> Iterator[Page]:
    """Context in which MLflow serves a study, for this machine alone: its trials by Dice, with parameters and pictures.

    `study`: None for the one that was worked on last. `port`: None for the first free one from 5000 on. Where
    `tracking_uri` names a server, the page is on that server. Raises `BadStudy` where MLflow does not have
    the study, and `BadMachine` where the server does not answer or start.

    >>> import orchestrator as po
    >>> with po.ui("demo") as page:  # doctest: +SKIP
    ...     print(page.address)
    http://127.0.0.1:5000/#/experiments/1/runs?...
    """
    from orchestrator.common.display import Display
    from orchestrator.results.mlflow.client import with_credentials_apart
    from orchestrator.results.mlflow.ui.server import free_port, runs_page, serving
    from orchestrator.search.store.study_store import find_study

    with python_errors():
        found = find_study(home_folder(home), study)
        uri = _uri(found, tracking_uri, display or Display())
        experiment = _experiment(found, uri)
        if uri.startswith(("http://", "https://")):
            base = with_credentials_apart(uri)
            yield Page(runs_page(base, experiment.experiment_id, experiment.tags), None)
            return
        free = free_port(port)
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(uri, free, Path(folder) / "mlflow.log") as server,
        ):
            page = runs_page(f"http://127.0.0.1:{free}", experiment.experiment_id, experiment.tags)
            yield Page(page, server.wait)


def _uri(found: StudyStore, tracking_uri: str | None, display: Display) -> str:
    """Tracking URI: as given, or of the home's database, updated. `BadStudy` where the home has none yet."""
    from orchestrator.common.errors import BadStudy
    from orchestrator.results.mlflow.client import check_uri, default_uri
    from orchestrator.results.mlflow.ui.moved_home import mend_moved_home
    from orchestrator.results.mlflow.up_to_date import bring_up_to_date

    if tracking_uri is not None:
        check_uri(tracking_uri)
        return tracking_uri
    if not (found.home / "mlflow.db").exists():
        raise BadStudy(
            str(found.home), f"holds no MLflow database yet; `orchestrator sync {found.name}` makes it"
        )
    if (moved := mend_moved_home(found.home)) is not None:
        display.note(
            f"the home was at {moved[0]} when MLflow was last written: {moved[1]} addresses of pictures and models are "
            "corrected"
        )
    bring_up_to_date(found.home, display.note)
    return default_uri(found.home)


def _experiment(found: StudyStore, uri: str) -> Experiment:
    """Experiment of a study. `BadStudy` where MLflow has none, `BadMachine` if MLflow does not answer."""
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
