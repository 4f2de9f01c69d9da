"""Sink of a study in MLflow: while it runs, at its end, and later, by `orchestrator sync`."""

from __future__ import annotations

import logging
import math
import os
import shutil
import threading
from typing import TYPE_CHECKING, Self

from orchestrator.common.errors import BadMachine
from orchestrator.common.redaction import without_secrets
from orchestrator.results.mlflow.client import check_uri, connect, default_uri
from orchestrator.results.mlflow.runs.study_runs import StudyRuns
from orchestrator.results.mlflow.summary import summary_of
from orchestrator.results.mlflow.sync import Draw, Report, StudySync, draw_report, draw_trial
from orchestrator.results.mlflow.tags import study_tags
from orchestrator.results.mlflow.ui.moved_home import mend_moved_home
from orchestrator.results.provenance import write_environment
from orchestrator.results.sinks.replay import PERIOD_S, RETRY_S, ReplaySink
from orchestrator.search.records.status import read_status
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial

if TYPE_CHECKING:
    from orchestrator.study.runnable_study import RunnableStudy
    from orchestrator.training.ray.lanes import Shape

logger = logging.getLogger(__name__)
# MLflow retries for minutes by default; here the next sync does.
HTTP_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


class MlflowSink(ReplaySink):
    """Writes one study to an MLflow server, or to the database of its home."""

    def __init__(
        self,
        store: StudyStore,
        tracking_uri: str | None = None,
        *,
        pictures: Draw = draw_trial,
        report: Report = draw_report,
        period_s: float = PERIOD_S,
        retry_s: float = RETRY_S,
    ) -> None:
        """`tracking_uri`: MLflow's server or database; None for the database of the home.

        `pictures` draws a complete trial, `report` a study that is over.

        Raises `BadMachine` where MLflow would refuse the URI.
        """
        super().__init__(period_s=period_s, retry_s=retry_s)
        self.store, self.uri = store, tracking_uri or default_uri(store.home)
        check_uri(self.uri)
        self.name = f"MLflow at {without_secrets(self.uri)}"
        # A server knows where its artifacts go; our own database is told.
        self.artifacts = None if tracking_uri else str(store.home / "mlartifacts")
        self.replay = StudySync(store, pictures, report)
        self._runs: StudyRuns | None = None
        self._patience: dict[str, str] = {}
        self._is_running = self._is_over = self._is_written = self._was_away = False
        self._champion: StudyTrial | None = None
        self._lock = threading.Lock()
        self._in_flight: dict[tuple[int, int, str], dict[int, dict[str, float]]] = {}

    def __enter__(self) -> Self:
        _drop_spool(self.store)
        self._patience = {name: value for name, value in HTTP_PATIENCE.items() if name not in os.environ}
        os.environ.update(self._patience)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for name in self._patience:
            os.environ.pop(name, None)

    def started(self, study: RunnableStudy, shape: Shape) -> None:
        write_environment(study.store.folder, race=study.race, sampler=study.sampler)
        self._is_running = True

    def epochs(self, number: int, fold: int, fit_id: str, rows: list[dict[str, float]]) -> None:
        with self._lock:
            known = self._in_flight.setdefault((number, fold, fit_id), {})
            known |= {int(row["epoch"]): row for row in rows}

    def finished(self, champion: StudyTrial | None) -> None:
        self._champion, self._is_over = champion, True
        super().finished(champion)

    def sync(self, *, is_last: bool) -> None:
        self._is_written = False
        self.replay.look()
        in_flight = self._rows()
        if is_last and self._was_away:
            self._runs = None  # a request that was given up may have been carried out since
        try:
            self._runs = self._runs or self._connect()
            self.replay.write(self._runs, in_flight, is_running=self._is_running and not is_last)
            if is_last and self._is_over:
                self.replay.summarise(self._runs, summary_of(self.store, self._champion))
            elif is_last:
                self._runs.interrupted()
            if is_last:
                self.replay.completed(self._runs)
        except Exception:
            self._was_away = True
            self._runs = None  # what it remembers may be out of date when MLflow is back
            raise
        self._forget(in_flight)
        self._is_written = is_last

    def missing(self) -> str | None:
        if self._is_written:
            return None
        known, num = len(self.replay.records.trials), self.replay.num_missing
        lacks = f"{num} of {known} trials" if num else "how the study ended"
        return (
            f"{self.name} lacks {lacks} of study {self.store.name}; it is all on record, and "
            f"`orchestrator sync {self.store.name}`, or the same search again, writes it"
        )

    def known_problem(self, error: Exception) -> str | None:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        is_known = isinstance(error, (MlflowException, SQLAlchemyError, OSError))
        return f"{type(error).__name__}: {error}" if is_known else super().known_problem(error)

    def _connect(self) -> StudyRuns:
        if self.artifacts is not None and (moved := mend_moved_home(self.store.home)) is not None:
            logger.warning(
                "%s was at %s when MLflow was last written: %d addresses of pictures and models are corrected",
                self.store.home,
                *moved,
            )
        tags = study_tags(self.store, self.replay.records.plan)
        return StudyRuns(connect(self.uri), self.store.name, self.artifacts, tags)

    def _rows(self) -> dict[tuple[int, int, str], dict[int, dict[str, float]]]:
        """Epochs of fits in flight; fits that are on record, or whose trial is over, are dropped."""
        records = self.replay.records
        over = {number for number, known in records.trials.items() if known.is_over}
        with self._lock:
            for key in [key for key in self._in_flight if key[0] in over or key[2] in records.on_record]:
                del self._in_flight[key]
            return {key: dict(rows) for key, rows in self._in_flight.items()}

    def _forget(self, written: dict[tuple[int, int, str], dict[int, dict[str, float]]]) -> None:
        with self._lock:
            for key, rows in written.items():
                for epoch in rows:
                    self._in_flight.get(key, {}).pop(epoch, None)


def end_on_record(store: StudyStore) -> tuple[bool, StudyTrial | None]:
    """Whether a study that no process works on is over, and its champion; after a cut-off it is not over."""
    status, champion = read_status(store.status_file), store.champion()
    if status is not None and status.state != "ended":
        return False, None
    if champion is not None:
        return True, next((trial for trial in store.trials() if trial.number == champion.trial), None)
    return status is not None and not store.feasible(), None


def write_now(store: StudyStore, *sinks: ReplaySink) -> None:
    """Write the results of a study without a process that these sinks lack. `BadMachine` if one is away."""
    is_over, champion = end_on_record(store)
    for sink in sinks:
        with sink:
            if is_over:
                sink.finished(champion)
            sink.close(math.inf)
        if sink.is_away:
            raise BadMachine(sink.name, f"{sink.problem}; the same command continues from here")


def _drop_spool(store: StudyStore) -> None:
    """Delete the calls to MLflow that an earlier version stored: the records of the study say the same."""
    spool = store.folder / "mlflow-spool"
    calls = spool / "calls.jsonl"
    if calls.exists() and (num_calls := calls.read_bytes().count(b"\n")):
        logger.warning(
            "%s: %d calls that an earlier version kept for MLflow are deleted; what they say is written from the "
            "records of the study",
            spool,
            num_calls,
        )
    shutil.rmtree(spool, ignore_errors=True)
