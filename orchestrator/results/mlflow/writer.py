"""The only writer to MLflow: calls return at once, a thread carries them out, a spool on disk keeps them.

The search never waits for MLflow and never fails because of it. A server that is away is asked again every
few seconds; what it missed is written when it is back, or when the study is next opened.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from orchestrator.common.interruption import seconds_since
from orchestrator.common.redaction import without_secrets
from orchestrator.results.mlflow.client import check_uri, connect
from orchestrator.results.mlflow.runs import DatasetUse, StudyRuns
from orchestrator.results.mlflow.spool import Spool

logger = logging.getLogger(__name__)

RETRY_S = 15.0
# Once a scheduler has asked this process to end, MLflow is waited for no longer than this: it will kill after 30.
HURRY_S = 20.0
# Bytes of waiting calls that are worth a word, and again when they have doubled: nothing bounds them.
MANY_BYTES = 16_000_000
# MLflow retries for minutes by default; here the spool does the waiting.
HTTP_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
# Answers of MLflow that will be the same next time. Everything else means that the server is away.
FINAL_ANSWERS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class MlflowWriter:
    """Tells MLflow about one study. Use as a context manager; `summary` says that the study is complete."""

    def __init__(
        self,
        uri: str,
        experiment: str,
        artifact_location: str | None,
        study_tags: Mapping[str, str],
        *,
        spool: Path,
        retry_s: float = RETRY_S,
    ) -> None:
        check_uri(uri)
        self._uri, self._experiment = uri, experiment
        self._artifact_location, self._study_tags = artifact_location, dict(study_tags)
        self._datasets: list[DatasetUse] = []
        self._spool = Spool(spool)
        self._runs: StudyRuns | None = None
        self._retry_s = retry_s
        self._away = self._complete = False
        self._many_bytes = MANY_BYTES
        self._news, self._closing = threading.Event(), threading.Event()
        self._patience = {name: value for name, value in HTTP_PATIENCE.items() if name not in os.environ}
        os.environ.update(self._patience)
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Calls that MLflow has not taken yet."""
        return len(self._spool)

    @property
    def is_away(self) -> bool:
        """Whether MLflow did not take the last call."""
        return self._away

    def study(self, artifacts: Mapping[str, str], datasets: Sequence[tuple[str, str, int, str]]) -> None:
        """Open the study, with `artifacts` as file name -> text.

        `datasets`: (name, digest, num_cases, "source" | "unseen"); trials carry the source datasets.
        """
        self._datasets = [DatasetUse(*use) for use in datasets]
        self._say("study", artifacts=dict(artifacts), datasets=self._datasets)

    def trial_started(
        self, number: int, params: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> None:
        """Open a trial; `params` are flat and never change."""
        source = [use for use in self._datasets if use.context == "source"]
        self._say("trial_started", number=number, params=dict(params), tags=dict(tags or {}), datasets=source)

    def epoch(self, number: int, fold: str, fit_id: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Report epochs of a fit, new ones or all so far."""
        self._say("epochs", number=number, fold=str(fold), fit_id=fit_id, rows=[dict(row) for row in rows])

    def fold_finished(
        self,
        number: int,
        fold: str,
        fit_id: str,
        rows: Sequence[Mapping[str, float]],
        metrics: Mapping[str, float],
    ) -> None:
        """Complete a fold: all of its epochs and its scores."""
        self._say(
            "fold_finished",
            number=number,
            fold=str(fold),
            fit_id=fit_id,
            rows=[dict(row) for row in rows],
            metrics=dict(metrics),
        )

    def fold_scores(self, number: int, fold: str, fit_id: str, metrics: Mapping[str, float]) -> None:
        """Add to a finished fold what it scores by the masks of its trial."""
        self._say("fold_scores", number=number, fold=str(fold), fit_id=fit_id, metrics=dict(metrics))

    def verdict(self, number: int, verdict: Mapping[str, Any]) -> None:
        """Say what the race made of a trial's folds: `action`, `reason`, `against`, `numbers`."""
        self._say("verdict", number=number, verdict=dict(verdict))

    def trial_finished(
        self,
        number: int,
        metrics: Mapping[str, float],
        state: Literal["complete", "failed", "stopped"] = "complete",
        error: str | None = None,
    ) -> None:
        """Complete a trial with its summary scores, or with what went wrong."""
        self._say("trial_finished", number=number, metrics=dict(metrics), state=state, error=error)

    def trial_scores(
        self,
        number: int,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Add scores to a trial that has ended: those on test cases and unseen datasets.

        `params`: what `trial_started` was told, for a server that was not there.
        """
        self._say(
            "trial_scores",
            number=number,
            metrics=dict(metrics),
            tags=dict(tags or {}),
            params=dict(params or {}),
        )

    def overlays(self, number: int, pictures: Mapping[str, Path | bytes]) -> None:
        """Store PNG pictures, name -> path or content, with a trial; they are copied before this returns."""
        files = [
            self._spool.keep_file(
                _file_name(name), picture if isinstance(picture, bytes) else picture.read_bytes()
            )
            for name, picture in pictures.items()
        ]
        self._say("overlays", number=number, files=files)

    def study_tags(self, tags: Mapping[str, str]) -> None:
        """Tag the study's own run."""
        self._say("study_tags", tags=dict(tags))

    def summary(self, metrics: Mapping[str, float]) -> None:
        """Complete the study with the scores of its champion."""
        self._complete = True
        self._say("summary", metrics=dict(metrics))

    def close(self, timeout_s: float = 30.0) -> None:
        """Write what waits, for so many seconds at most; the rest stays on disk and a warning says so."""
        if self._closing.is_set():
            return
        if not self._complete:
            try:
                self._say("interrupted")
            except (
                OSError
            ) as error:  # the search ends, and that is said; its next start reads what is on record
                logger.warning("MLflow is not told that the study ends here: %s", error)
        self._closing.set()
        self._news.set()
        end = time.monotonic() + timeout_s
        while self._thread.is_alive() and time.monotonic() < end and seconds_since() < HURRY_S:
            self._thread.join(0.1)
        for name in self._patience:
            os.environ.pop(name, None)
        if self.num_waiting:
            logger.warning(
                "%d calls to MLflow at %s are not written yet; they wait in %s for its next start",
                self.num_waiting,
                without_secrets(self._uri),
                self._spool.folder,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _say(self, method: str, **arguments: Any) -> None:
        self._spool.append({"method": method, "at": int(time.time() * 1000), **arguments})
        self._news.set()

    def _work(self) -> None:
        while True:
            self._news.clear()
            closing = self._closing.is_set()
            try:
                drained = self._drain()
            except OSError as error:  # the spool itself cannot be written to: its calls wait there
                self._is_away(error)
                drained = False
            if closing:
                return
            if drained:
                self._news.wait()
            else:
                self._closing.wait(self._retry_s)

    def _drain(self) -> bool:
        """Carry out what waits; False if MLflow is away."""
        while (call := self._spool.first()) is not None:
            if not self._carry_out(call):
                return False
        return True

    def _carry_out(self, call: dict[str, Any]) -> bool:
        try:
            self._runs = self._runs or self._connect()
        except (
            Exception
        ) as error:  # whatever it is, a driver that is missing too: calls wait until it is mended
            self._is_away(error)
            return False
        try:
            _apply(call, self._runs, self._spool.folder)
        except Exception as error:
            if not _is_final(error):
                self._runs = None  # what it remembers may be out of date when MLflow is back
                self._is_away(error)
                return False
            logger.warning(
                "MLflow refused a call (%s), kept in %s: %s",
                call["method"],
                self._spool.folder,
                without_secrets(str(error)),
            )
            self._spool.refuse(without_secrets(str(error)))
            return True
        self._spool.done()
        self._away, self._many_bytes = False, MANY_BYTES
        return True

    def _connect(self) -> StudyRuns:
        return StudyRuns(connect(self._uri), self._experiment, self._artifact_location, self._study_tags)

    def _is_away(self, error: Exception) -> None:
        """Say so, once; what is not known of servers that are away may be a bug, and keeps its traceback."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        if not self._away:
            is_known = isinstance(error, (MlflowException, SQLAlchemyError, OSError))
            lines = [f"{type(error).__name__}: {error}"] if is_known else traceback.format_exception(error)
            logger.warning(
                "MLflow at %s is away; the search goes on and calls wait in %s: %s",
                without_secrets(self._uri),
                self._spool.folder,
                without_secrets("".join(lines)),
            )
        self._away = True
        if (waiting := self._spool.num_bytes) >= self._many_bytes:
            self._many_bytes = 2 * waiting
            logger.warning(
                "MLflow at %s is still away: %d calls, %.0f MB, wait in %s",
                without_secrets(self._uri),
                self.num_waiting,
                waiting / 1e6,
                self._spool.folder,
            )


def _is_final(error: Exception) -> bool:
    """Whether MLflow itself refused a call. A bare 400 is of a proxy: MLflow says in JSON what it refuses."""
    from mlflow.exceptions import RestException

    code = getattr(error, "error_code", None)
    return code in FINAL_ANSWERS and (code != "BAD_REQUEST" or isinstance(error, RestException))


def _apply(call: dict[str, Any], runs: StudyRuns, spool: Path) -> None:
    arguments = {name: value for name, value in call.items() if name != "method"}
    if call["method"] == "overlays":
        arguments["files"] = [str(spool / file) for file in call["files"]]
    getattr(runs, call["method"])(**arguments)


def _file_name(name: str) -> str:
    safe = name.replace("/", "_")
    return safe if safe.endswith(".png") else f"{safe}.png"
