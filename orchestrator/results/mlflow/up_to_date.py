"""Runs that an earlier version of the program wrote into the database of a home, completed before it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from orchestrator.common.errors import BadStudy, UserError
from orchestrator.results.mlflow.client import connect, default_uri
from orchestrator.results.mlflow.runs.known_runs import LAYOUT
from orchestrator.results.mlflow.sink import MlflowSink, write_now
from orchestrator.results.mlflow.tags import WRITTEN_AS
from orchestrator.search.store.study_store import StudyStore, list_studies


def bring_up_to_date(home: Path, say: Callable[[str], None]) -> None:
    """Complete runs of earlier versions from the records of each study; a running search completes its own.

    An error is reported by `say`, and that study's runs stay as they are.
    """
    client = connect(default_uri(home))
    for study in list_studies(home):
        try:
            experiment = client.get_experiment_by_name(study.name)
            if experiment is None or is_up_to_date(experiment.tags, study.study_id):
                continue
            if (lock := _free(study)) is None:
                continue
            with lock:
                say(f"{study.name}: what an earlier version wrote into MLflow is brought up to date")
                write_now(study, MlflowSink(study))
        except (UserError, OSError) as error:
            say(f"{study.name}: MLflow's pages still show it as an earlier version wrote it: {error}")


def _free(study: StudyStore) -> FileLock | None:
    """Lock of a study; None if a search holds it, which completes the study's runs itself."""
    try:
        return study.lock()
    except BadStudy:
        return None


def is_up_to_date(tags: Mapping[str, str], study_id: str) -> bool:
    """Whether an experiment with these tags was completed by this version, or by a later one."""
    layout, _, of = tags.get(WRITTEN_AS, "").partition(" ")
    return of == study_id and layout.isdecimal() and int(layout) >= int(LAYOUT)
