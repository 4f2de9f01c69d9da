"""A study written to MLflow and to CSV files from its records, without a search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.common.display import counted
from orchestrator.results.mlflow.client import refuse_locked_out
from orchestrator.results.mlflow.sink import MlflowSink, write_now
from orchestrator.results.sinks.csv_files import CsvSink
from orchestrator.search.store.study_store import StudyStore


@dataclass(frozen=True)
class Synced:
    """Places where the results of a study are written: MLflow and CSV files."""

    study: str
    num_trials: int
    mlflow: str  # the server or the database, without its password
    folder: Path  # with trials.csv, folds.csv and epochs.csv

    def lines(self) -> tuple[str, str]:
        """Two sentences: where the trials are in MLflow, and where the CSV files are."""
        return (
            f"{self.study}: {counted(self.num_trials, 'trial')} in {self.mlflow}",
            f"trials.csv, folds.csv and epochs.csv are in {self.folder}",
        )

    def as_dict(self) -> dict[str, Any]:
        """Values for programs: study, trials, mlflow, folder."""
        return {
            "study": self.study,
            "trials": self.num_trials,
            "mlflow": self.mlflow,
            "folder": str(self.folder),
        }


def synced(store: StudyStore, uri: str | None) -> Synced:
    """Write what MLflow and the CSV files lack of a study. `BadMachine` if the server does not answer."""
    sinks = CsvSink(store), MlflowSink(store, uri)
    refuse_locked_out(sinks[1].uri)
    with store.lock():
        write_now(store, *sinks)
    return Synced(store.name, len(sinks[1].replay.records.trials), sinks[1].name, store.folder)
