"""The runs of one study in MLflow, found again by their tags, so that what is written twice is there once.

One experiment a study. Its runs carry the tag `role`: one "study" (files, summary), one "trial" a trial
(parameters, scores) and, below it, one "fold" a fit (curves); a "refit" and an "ensemble" are runs next to their trial.
Trials are not nested in the study: the compare view and the parallel-coordinates plot then show them without unfolding
anything.

Epochs are counted from 1, in records from 0; a study that an earlier version began to write from 0 goes on from 0, so
that no curve has mixed steps, and a warning says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.common.redaction import without_secrets
from orchestrator.results.mlflow.client import is_refusal

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Param, RunTag

logger = logging.getLogger(__name__)

FIRST_EPOCH = "first_epoch"  # the tag that says what the first epoch of a run is called
CURVES = ("train_loss", "val_dice", "learning_rate", "images_per_second")
STATUS = {"complete": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
# Characters that MLflow takes.
MAX_DIGEST, MAX_TAG = 36, 4000
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Key(NamedTuple):
    """What a run is found by: its tags."""

    role: str
    trial: str = ""
    fit_id: str = ""


@dataclass
class KnownRun:
    """What MLflow holds about a run, so that it need not be asked again."""

    key: Key
    run_id: str
    status: str
    metrics: dict[str, float]  # the last values
    params: set[str]
    tags: dict[str, str]
    has_datasets: bool
    epochs: set[int] | None  # steps of its curves; None: to be looked up

    @property
    def num_values(self) -> int:
        return len(self.metrics) + len(self.params) + len(self.tags)

    @property
    def first_epoch(self) -> int:
        """The step of its first epoch."""
        return int(self.tags.get(FIRST_EPOCH, "0"))


class DatasetUse(NamedTuple):
    """A dataset that runs are tagged with."""

    name: str
    digest: str
    num_cases: int
    context: str  # "source": searched on; "unseen": scored once at the end


class StudyRuns:
    """Writes the runs of one study: what MLflow holds is read once, and only what differs is written.

    Times are milliseconds since 1970. Raises what MLflow raises where it does not answer; what it refuses for good is
    logged and left out.
    """

    def __init__(
        self, client: MlflowClient, experiment: str, artifact_location: str | None, tags: Mapping[str, str]
    ) -> None:
        self._client = client
        self._experiment = experiment
        self._tags = {"study": experiment, **tags}
        self._experiment_id = _open_experiment(client, experiment, artifact_location, self._tags)
        self._runs: dict[Key, KnownRun] = {}
        for run in _read_runs(client, self._experiment_id, self._tags):
            self._know(run)
        self._first_epoch = min((run.first_epoch for run in self._runs.values()), default=1)
        self._tags[FIRST_EPOCH] = str(self._first_epoch)
        if self._first_epoch == 0:
            logger.warning("the runs of %s in MLflow were begun with epochs from 0, and go on so", experiment)

    def _know(self, run: KnownRun) -> None:
        """Keep one run of each key: a server that hung may carry out a request after it was made once more."""
        other = self._runs.setdefault(run.key, run)
        if other is run:
            return
        kept, late = sorted((run, other), key=lambda one: one.num_values, reverse=True)
        self._client.delete_run(late.run_id)
        self._runs[run.key] = kept
        logger.warning(
            "MLflow had the run of %r twice, for it answered a request late; the emptier one is deleted",
            " ".join(part for part in run.key if part),
        )

    def has_ended(self, number: int, state: str) -> bool:
        """Whether the run of a trial is complete, as one of this state."""
        run = self._runs.get(Key("trial", str(number)))
        return run is not None and run.status == STATUS[state] and run.tags.get("state") == state

    def has_fold(self, number: int, fit_id: str) -> bool:
        """Whether the run of a finished fit is complete, but for scores by the masks of its trial."""
        run = self._runs.get(Key("fold", str(number), fit_id))
        return run is not None and run.status == "FINISHED"

    def has_cut_fold(self, number: int, fit_id: str) -> bool:
        """Whether the run of a fit that was cut has all that is on record of it."""
        run = self._runs.get(Key("fold", str(number), fit_id))
        return run is not None and (run.status == "FINISHED" or run.tags.get("cut") == "true")

    def study(self, datasets: Sequence[Sequence[Any]], at: int, *, is_running: bool = True) -> None:
        """Make the study's run, if there is none; `is_running`: the search goes on."""
        run = self._open(Key("study"), self._experiment, at, {})
        self._log_datasets(run, datasets)
        if is_running:
            self._reopen(run, finished=True)

    def study_files(self, files: Mapping[str, str], at: int) -> None:
        """Store text files with the study, name -> content, unless it has these very ones."""
        run = self._open(Key("study"), self._experiment, at, {})
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        if run.tags.get("files") != digest:
            for name, text in files.items():
                self._client.log_text(run.run_id, text, name)
            self._log(run, at, tags={"files": digest})

    def trial(
        self,
        number: int,
        params: Mapping[str, Any],
        datasets: Sequence[Sequence[Any]],
        at: int,
        *,
        is_running: bool = True,
    ) -> None:
        """Make a trial's run, if there is none; parameters that it has are left alone, for MLflow lets none change."""
        run = self._open_trial(number, at, str(params.get("network", "")))
        self._log_datasets(run, datasets)
        self._log(run, at, params=params)
        if is_running:
            self._reopen(run)

    def epochs(
        self, number: int, fold: str, fit_id: str, rows: Sequence[Mapping[str, float]], at: int
    ) -> None:
        """Write the epochs of a fit in flight that MLflow does not have yet."""
        run = self._open_fold(number, fold, fit_id, at)
        if run.status != "FINISHED":
            self._reopen(run)
            self._log(run, at, rows=rows)

    def fold_finished(
        self,
        number: int,
        fold: str,
        fit_id: str,
        rows: Sequence[Mapping[str, float]],
        metrics: Mapping[str, float],
        at: int,
        start: int | None = None,
    ) -> None:
        """Complete a fold: all of its epochs and its scores."""
        run = self._open_fold(number, fold, fit_id, at if start is None else start)
        self._log(run, at, metrics=self._counted(metrics), rows=() if run.status == "FINISHED" else rows)
        self._end(run, "FINISHED", at)

    def fold_cut(
        self, number: int, fold: str, fit_id: str, rows: Sequence[Mapping[str, float]], state: str, at: int
    ) -> None:
        """Complete the run of a fit that its trial, which was stopped or failed, left unfinished."""
        run = self._open_fold(number, fold, fit_id, at)
        self._log(run, at, rows=rows, tags={"cut": "true"})
        self._end(run, "FAILED" if state == "failed" else "KILLED", at)

    def network(
        self,
        number: int,
        kind: str,
        label: str,
        fit_id: str,
        *,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        datasets: Sequence[Sequence[Any]],
        rows: Sequence[Mapping[str, float]],
        metrics: Mapping[str, float],
        at: int,
    ) -> str:
        """Complete the run of a network that is handed over, and return its id; a fold has one already."""
        if kind == "fold":
            run = self._open_fold(number, label, fit_id, at)
        else:
            run = self._open(Key(kind, str(number), fit_id), f"trial-{number:03d} {label}", at, {})
        self._log_datasets(run, datasets)
        self._log(run, at, metrics=metrics, params=params, tags=tags, rows=rows)
        self._end(run, "FINISHED", at)
        return run.run_id

    def verdict(self, number: int, verdict: Mapping[str, Any], at: int) -> None:
        """Tag a trial with the last verdict of the race on it: action, reason, compared trial, numbers."""
        tags = {
            "race" if name == "action" else f"race_{name}": _text("" if value is None else value)
            for name, value in verdict.items()
        }
        self._log(self._open_trial(number, at), at, tags=tags)

    def trial_finished(
        self, number: int, metrics: Mapping[str, float], state: str, error: str | None, at: int
    ) -> None:
        """Complete a trial; folds of it that are still open end with it."""
        run = self._open_trial(number, at)
        reason = {} if not error else {"stopped_because" if state == "stopped" else "error": error}
        self._log(run, at, metrics=metrics, tags={"state": state} | reason)
        for fold in self._open_runs():
            if fold.key.role == "fold" and fold.key.trial == str(number):
                self._end(fold, "FAILED" if state == "failed" else "KILLED", at)
        self._end(run, STATUS[state], at)

    def trial_scores(
        self, number: int, metrics: Mapping[str, float], tags: Mapping[str, str], at: int
    ) -> None:
        """Add scores that a trial gets at the end of the study. A champion of before is none any more."""
        run = self._open_trial(number, at)
        if tags.get("champion") == "true":
            for other in self._runs.values():
                if other is not run and other.tags.get("champion") == "true":
                    self._log(other, at, tags={"champion": "false"})
        self._log(run, at, metrics=metrics, tags=tags)

    def pictures(self, number: int, pictures: Mapping[str, bytes], at: int) -> None:
        """Store PNG pictures, file name -> content, with a trial."""
        if not pictures:
            return
        run = self._open_trial(number, at)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in pictures.items():
                (Path(folder) / name).write_bytes(content)
            self._client.log_artifacts(run.run_id, folder, "overlays")

    def study_tags(self, tags: Mapping[str, str], at: int) -> None:
        """Tag the study's own run."""
        self._log(self._open(Key("study"), self._experiment, at, {}), at, tags=tags)

    def summary(self, metrics: Mapping[str, float], at: int) -> None:
        """Complete the study; runs that are still open end with it."""
        run = self._open(Key("study"), self._experiment, at, {})
        self._log(run, at, metrics=metrics)
        self._end(run, "FINISHED", at)
        self.interrupted(at)

    def interrupted(self, at: int | None = None) -> None:
        """Mark what is still open as killed; it opens again when the study goes on."""
        for run in self._open_runs():
            self._end(run, "KILLED", at)

    def _open_runs(self) -> list[KnownRun]:
        return [run for run in self._runs.values() if run.status == "RUNNING"]

    def _open_trial(self, number: int, at: int, network: str = "") -> KnownRun:
        name = f"trial-{number:03d} {network}".strip()
        return self._open(Key("trial", str(number)), name, at, {})

    def _open_fold(self, number: int, fold: str, fit_id: str, at: int) -> KnownRun:
        label = f"fold-{fold}" if fold.isdigit() else fold
        parent = self._runs.get(Key("trial", str(number))) or self._open_trial(number, at)
        tags = {"fold": fold, "mlflow.parentRunId": parent.run_id}
        return self._open(Key("fold", str(number), fit_id), f"trial-{number:03d}/{label}", at, tags)

    def _open(self, key: Key, name: str, at: int, tags: Mapping[str, str]) -> KnownRun:
        run = self._runs.get(key)
        if run is None:
            found_by = {field: value for field, value in key._asdict().items() if value}
            all_tags = {**self._tags, **tags, **found_by}
            created = self._client.create_run(
                self._experiment_id, start_time=at, run_name=name, tags=all_tags
            )
            run = KnownRun(key, created.info.run_id, "RUNNING", {}, set(), all_tags, False, epochs=set())
            self._runs[key] = run
        return run

    def _reopen(self, run: KnownRun, *, finished: bool = False) -> None:
        """Go on with a run that was interrupted; a finished one too, if so."""
        if run.status != "RUNNING" and (finished or run.status != "FINISHED"):
            self._client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"

    def _end(self, run: KnownRun, status: str, at: int | None) -> None:
        if run.status != status:
            self._client.set_terminated(run.run_id, status, end_time=at)
            run.status = status

    def _log_datasets(self, run: KnownRun, datasets: Sequence[Sequence[Any]]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if run.has_datasets or not datasets:
            return
        inputs = [
            DatasetInput(
                Dataset(
                    use.name,
                    use.digest[:MAX_DIGEST],
                    source_type="orchestrator",
                    source=json.dumps({"dataset": use.name, "fingerprint": use.digest}),
                    profile=json.dumps({"num_cases": use.num_cases}),
                ),
                tags=[InputTag("mlflow.data.context", use.context)],
            )
            for use in (DatasetUse(*fields) for fields in datasets)
        ]
        self._client.log_inputs(run.run_id, datasets=inputs)
        run.has_datasets = True

    def _log(
        self,
        run: KnownRun,
        at: int,
        *,
        metrics: Mapping[str, float] = NOTHING,
        params: Mapping[str, Any] = NOTHING,
        tags: Mapping[str, str] = NOTHING,
        rows: Sequence[Mapping[str, float]] = (),
    ) -> None:
        """Write what differs from what the run has, in one call."""
        from mlflow.entities import Metric, Param, RunTag

        numbers = {name: float(value) for name, value in metrics.items()}
        numbers = {
            name: value for name, value in numbers.items() if not _is_same(run.metrics.get(name), value)
        }
        texts = {name: value[:MAX_TAG] for name, value in tags.items()}
        texts = {name: value for name, value in texts.items() if run.tags.get(name) != value}
        points, steps = self._curve(run, rows, at)
        self._write(
            run,
            [*points, *(Metric(name, value, at, 0) for name, value in numbers.items())],
            [Param(name, _text(value)) for name, value in params.items() if name not in run.params],
            [RunTag(name, value) for name, value in texts.items()],
        )
        run.metrics |= numbers
        run.params |= params.keys()
        run.tags |= texts
        if steps:
            run.epochs = (run.epochs or set()) | steps

    def _write(self, run: KnownRun, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        """One call; where MLflow refuses it, one for each name, so that the rest is written."""
        if not (metrics or params or tags):
            return
        try:
            self._client.log_batch(run.run_id, metrics=metrics, params=params, tags=tags)
            return
        except Exception as error:
            if not is_refusal(error):
                raise
            names = {*(one.key for one in metrics), *(one.key for one in params), *(one.key for one in tags)}
            if len(names) == 1:
                role = " ".join(part for part in run.key if part)
                logger.warning(
                    "MLflow refused %s of run %r: %s", names.pop(), role, without_secrets(str(error))
                )
                return
        for name in sorted(names):
            self._write(
                run,
                [one for one in metrics if one.key == name],
                [one for one in params if one.key == name],
                [one for one in tags if one.key == name],
            )

    def _curve(
        self, run: KnownRun, rows: Sequence[Mapping[str, float]], at: int
    ) -> tuple[list[Metric], set[int]]:
        """The points that a run lacks, and their steps; the last row ended at that time."""
        from mlflow.entities import Metric

        if not rows:
            return [], set()
        if run.epochs is None:
            run.epochs = self._epochs(run)
        times = _times(rows, at)
        new = {
            int(row["epoch"]) + self._first_epoch: (time, row)
            for time, row in zip(times, rows, strict=True)
            if int(row["epoch"]) + self._first_epoch not in run.epochs
        }
        points = [
            Metric(name, float(row[name]), time, step)
            for step, (time, row) in new.items()
            for name in CURVES
            if row.get(name) is not None and not math.isnan(row[name])
        ]
        return points, set(new)

    def _epochs(self, run: KnownRun) -> set[int]:
        histories = (
            self._client.get_metric_history(run.run_id, name) for name in CURVES if name in run.metrics
        )
        return {int(point.step) for history in histories for point in history}

    def _counted(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """With the best epoch as its step is called."""
        shift = {"best_epoch": metrics["best_epoch"] + self._first_epoch} if "best_epoch" in metrics else {}
        return {**metrics, **shift}


def _open_experiment(
    client: MlflowClient, name: str, artifact_location: str | None, tags: Mapping[str, str]
) -> str:
    experiment: Experiment | None = client.get_experiment_by_name(name)
    if experiment is None:
        return client.create_experiment(name, artifact_location, tags=dict(tags))
    if experiment.lifecycle_stage == "deleted":  # the study goes on, so its experiment is wanted again
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def _read_runs(client: MlflowClient, experiment_id: str, study_tags: Mapping[str, str]) -> Iterator[KnownRun]:
    """The runs of this study: another one may have had its name before."""
    token = None
    while True:
        page = client.search_runs([experiment_id], "tags.role != ''", max_results=1000, page_token=token)
        for run in page:
            tags = run.data.tags
            if tags.get("study_id") != study_tags.get("study_id"):
                continue
            yield KnownRun(
                Key(tags["role"], tags.get("trial", ""), tags.get("fit_id", "")),
                run.info.run_id,
                run.info.status,
                dict(run.data.metrics),
                set(run.data.params),
                dict(tags),
                has_datasets=bool(run.inputs and run.inputs.dataset_inputs),
                epochs=None,
            )
        token = page.token
        if not token:
            return


def _times(rows: Sequence[Mapping[str, float]], end: int) -> list[int]:
    """When each epoch ended, where the last one ended at `end` and rows say how long theirs took."""
    left, times = 0.0, []
    for row in reversed(rows):
        times.append(end - round(1000 * left))
        left += row.get("seconds", 0.0)
    return times[::-1]


def _is_same(known: float | None, value: float) -> bool:
    return known == value or (known is not None and math.isnan(known) and math.isnan(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
