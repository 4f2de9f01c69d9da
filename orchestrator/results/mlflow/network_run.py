"""The MLflow run of an exported network: that of its fold, or a new one of a refit or an ensemble."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.common.errors import BadMachine, BadStudy
from orchestrator.results.export.exported_network import Network
from orchestrator.results.mlflow.client import check_uri, connect
from orchestrator.results.mlflow.parameters import ended, fit_datasets, length
from orchestrator.results.mlflow.runs.run_log import DatasetUse
from orchestrator.results.mlflow.runs.study_runs import StudyRuns
from orchestrator.results.mlflow.tags import study_tags
from orchestrator.results.mlflow.ui.notes import network_note
from orchestrator.results.sinks.records import fold_label
from orchestrator.search.store.study_store import StudyStore

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def log_network(store: StudyStore, network: Network, tracking_uri: str) -> str:
    """Complete the run of a network with its parameters, curve, data and scores; returns the run's id.

    A repeated call updates the same run. BadStudy if MLflow has no such trial, BadMachine if it does not
    answer.
    """
    with answering(tracking_uri):
        client = connect(tracking_uri)
        find_run(client, store.name, store.study_id, network.trial)
        runs = StudyRuns(client, store.name, None, study_tags(store))
        return _log(store, runs, network)


def _log(store: StudyStore, runs: StudyRuns, network: Network) -> str:
    first = network.records[0]
    is_fold = network.kind == "fold"
    label = fold_label(network.training[0].label, int(first.spec.fold)) if is_fold else network.kind
    tags = {"network_of": network.name}
    if not is_fold:
        tags |= {"mlflow.source.name": "orchestrator best", "mlflow.source.type": "LOCAL"}
    if network.kind == "ensemble":
        tags["members"] = ", ".join(record.fit_id for record in network.records)
    return runs.network(
        network.trial,
        network.kind,
        label,
        network.fit_id,
        params=network.params,
        tags=tags,
        datasets=_data(network),
        rows=[] if network.kind == "ensemble" else first.curves,
        metrics=network.metrics,
        at=max(map(ended, network.records)),
        start=min(ended(record) - length(record) for record in network.records),
        note=network_note(store.name, network),
    )


def _data(network: Network) -> list[DatasetUse]:
    """Datasets that the networks were trained on, each once, and the unseen ones."""
    trained = (use for record in network.records for use in fit_datasets(record.spec))
    unseen = (DatasetUse(*row) for row in network.datasets if row[3] == "unseen")
    return [*dict.fromkeys((*trained, *unseen))]


def find_run(client: MlflowClient, experiment: str, study_id: str, trial: int) -> Run:
    """The run of a trial of the study with this id. Raises `BadStudy` if there is none."""
    found = client.get_experiment_by_name(experiment)
    of_study = f"tags.role = 'trial' and tags.trial = '{trial}' and tags.study_id = '{study_id}'"
    runs = client.search_runs([found.experiment_id], of_study) if found else []
    if not runs:
        raise BadStudy(
            experiment, f"MLflow at {client.tracking_uri} holds no run of trial {trial}; search first"
        )
    return runs[0]


@contextmanager
def answering(tracking_uri: str) -> Iterator[None]:
    """Context that raises `BadMachine` for errors of MLflow or its database; the command can be repeated."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    check_uri(tracking_uri)
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        why = str(error).partition("\n")[0]
        raise BadMachine(
            tracking_uri,
            f"MLflow did not accept what was logged, {why}; run the same command again once it does",
        ) from error
