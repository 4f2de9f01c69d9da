"""A study that is brought to MLflow, and what MLflow holds of it then."""

from __future__ import annotations

from typing import Any

from mlflow.entities import Run

from orchestrator.results.mlflow.client import connect
from orchestrator.results.mlflow.sink import MlflowSink
from orchestrator.search.store.study_store import StudyStore


def sink_to(store: StudyStore, uri: str, **options: Any) -> MlflowSink:
    """A sink that draws no pictures and no report, and does not wait."""
    sink = MlflowSink(
        store,
        uri,
        **{"pictures": lambda *_: {}, "report": lambda _: {}, "period_s": 0.02, "retry_s": 0.05, **options},
    )
    sink.artifacts = str(store.home / "mlartifacts")
    return sink


def sync_mlflow(
    store: StudyStore, uri: str, *, is_over: bool = True, champion: Any = None, **options: Any
) -> None:
    """Bring MLflow up to the records of a study; `champion`: by default its best trial."""
    sink = sink_to(store, uri, **options)
    if is_over:
        ranked = store.ranked()
        sink.finished(champion or (ranked[0][0] if ranked else None))
    assert sink.attempt(is_last=True)


def runs_of(store: StudyStore, uri: str, role: str | None = None) -> list[Run]:
    """Its runs, or those of that role."""
    client = connect(uri)
    experiment = client.get_experiment_by_name(store.name)
    of_study = f"tags.study_id = '{store.study_id}'" + (f" and tags.role = '{role}'" if role else "")
    return list(client.search_runs([experiment.experiment_id], of_study))
