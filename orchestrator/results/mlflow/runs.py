"""The runs of one study in MLflow, found again by their tags, so that saying a thing twice writes it once.

One experiment a study. Its runs carry the tag `role`: one "study" (files, summary), one "trial" a trial
(parameters, scores) and, below it, one "fold" a fit (curves); a "refit" and an "ensemble" stand beside their trial.
Trials are not nested in the study: the compare view and the parallel-coordinates plot then show them without unfolding
anything.

Epochs are counted from 1. Records and calls count from 0; a study that an earlier version began to write from 0 is
gone on with from 0, so that no curve has mixed steps, and a warning says so.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

logger = logging.getLogger(__name__)

FIRST_EPOCH = "first_epoch"  # the tag that says what the first epoch of a run is called
CURVES = ("train_loss", "val_dice", "learning_rate", "images_per_second")
STATUS = {"complete": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
# Limits of MLflow, per call and per value.
MAX_METRICS, MAX_PARAMS, MAX_DIGEST, MAX_ERROR = 1000, 100, 36, 4000


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
    metrics: dict[str, float]
    params: set[str]
    epochs: set[int] | None  # steps that its curves hold; None: look it up
    first_epoch: int = 1  # the step of its first epoch
    is_champion: bool = False  # as it is tagged


class DatasetUse(NamedTuple):
    """A dataset that runs are tagged with."""

    name: str
    digest: str
    num_cases: int
    context: str  # "source": searched on; "unseen": scored once at the end


class StudyRuns:
    """Writes the runs of one study. Every method may be called again after a crash."""

    def __init__(
        self, client: MlflowClient, experiment: str, artifact_location: str | None, tags: Mapping[str, str]
    ) -> None:
        self._client = client
        self._experiment = experiment
        self._tags = {"study": experiment, **tags}
        self._experiment_id = _open_experiment(client, experiment, artifact_location, self._tags)
        self._runs = dict(_read_runs(client, self._experiment_id, self._tags))
        self._open_runs = {key: run for key, run in self._runs.items() if run.status == "RUNNING"}
        self._first_epoch = min((run.first_epoch for run in self._runs.values()), default=1)
        self._tags[FIRST_EPOCH] = str(self._first_epoch)
        if self._first_epoch == 0:
            logger.warning("the runs of %s in MLflow were begun with epochs from 0, and go on so", experiment)

    def study(self, artifacts: Mapping[str, str], datasets: Sequence[Sequence[Any]], at: int) -> None:
        """Open the study's run and store its files, NAME -> text."""
        run = self._open(Key("study"), self._experiment, at, self._tags)
        self._client.update_run(run.run_id, status="RUNNING")
        self._is_now(run, "RUNNING")
        self._log_datasets(run, datasets)
        for name, text in artifacts.items():
            self._client.log_text(run.run_id, text, name)

    def trial_started(
        self,
        number: int,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        datasets: Sequence[Sequence[Any]],
        at: int,
    ) -> None:
        """Open a trial's run; parameters that it has already are left alone, for MLflow lets none change."""
        run = self._reopen(self._open_trial(number, at, str(params.get("network", "")), tags))
        self._log_datasets(run, datasets)
        self._log_params(run, params)

    def epochs(
        self, number: int, fold: str, fit_id: str, rows: Sequence[Mapping[str, float]], at: int
    ) -> None:
        """Write the epochs of a fold that MLflow has not seen yet."""
        run = self._reopen(self._open_fold(number, fold, fit_id, at))
        if run.status != "FINISHED":
            self._log_curves(run, rows, at)

    def fold_finished(
        self,
        number: int,
        fold: str,
        fit_id: str,
        rows: Sequence[Mapping[str, float]],
        metrics: Mapping[str, float],
        at: int,
    ) -> None:
        """Complete a fold: all of its epochs and its scores."""
        run = self._reopen(self._open_fold(number, fold, fit_id, at))
        if run.status != "FINISHED":
            self._log_curves(run, rows, at)
            self._log_metrics(run, self._counted(metrics), at)
            self._end(run, "FINISHED", at)

    def fold_scores(self, number: int, fold: str, fit_id: str, metrics: Mapping[str, float], at: int) -> None:
        """Add to a finished fold what it scores by the masks of its trial, which are known when all folds are."""
        run = self._open_fold(number, fold, fit_id, at)
        self._log_metrics(run, metrics, at)
        self._end(run, "FINISHED", at)

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
        for name, value in tags.items():
            self._client.set_tag(run.run_id, name, value)
        self._log_datasets(run, datasets)
        self._log_params(run, params)
        self._log_curves(run, rows, at)
        self._log_metrics(run, metrics, at)
        self._end(run, "FINISHED", at)
        return run.run_id

    def verdict(self, number: int, verdict: Mapping[str, Any], at: int) -> None:
        """Tag a trial with the last verdict on it: who decided what, against whom, with what numbers."""
        run = self._open_trial(number, at)
        for name, value in verdict.items():
            tag = "race" if name == "action" else f"race_{name}"
            self._client.set_tag(run.run_id, tag, _text("" if value is None else value)[:MAX_ERROR])

    def trial_finished(
        self, number: int, metrics: Mapping[str, float], state: str, error: str | None, at: int
    ) -> None:
        """Complete a trial; folds of it that are still open end with it."""
        run = self._open_trial(number, at)
        self._log_metrics(run, metrics, at)
        self._client.set_tag(run.run_id, "state", state)
        if error:
            why = "stopped_because" if state == "stopped" else "error"
            self._client.set_tag(run.run_id, why, error[:MAX_ERROR])
        for fold in [*self._open_runs.values()]:
            if fold.key.role == "fold" and fold.key.trial == str(number):
                self._end(fold, "FAILED" if state == "failed" else "KILLED", at)
        self._end(run, STATUS[state], at)

    def trial_scores(
        self,
        number: int,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        at: int,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Add scores that only a champion gets, whatever its state. Who was champion before is it no more.

        A server that has not seen the trial gets its `params`.
        """
        params = params or {}
        run = self._open_trial(number, at, str(params.get("network", "")))
        self._log_params(run, params)
        self._log_metrics(run, metrics, at)
        if tags.get("champion") == "true":
            self._dethrone(run)
        for name, value in tags.items():
            self._client.set_tag(run.run_id, name, value)
        if run.status == "RUNNING":  # it ended before this server was told of it
            self._end(run, "FINISHED", at)

    def overlays(self, number: int, files: Sequence[str], at: int) -> None:
        """Store pictures; a file that is gone was stored before."""
        run = self._open_trial(number, at)
        for path in map(Path, files):
            if path.exists():
                self._client.log_artifact(run.run_id, str(path), "overlays")
                path.unlink()

    def study_tags(self, tags: Mapping[str, str], at: int) -> None:
        """Tag the study's own run."""
        run = self._open(Key("study"), self._experiment, at, self._tags)
        for name, value in tags.items():
            self._client.set_tag(run.run_id, name, value)

    def summary(self, metrics: Mapping[str, float], at: int) -> None:
        """Complete the study; runs whose end nobody told end with it."""
        run = self._open(Key("study"), self._experiment, at, self._tags)
        self._log_metrics(run, metrics, at)
        self._end(run, "FINISHED", at)
        self.interrupted(at)

    def interrupted(self, at: int) -> None:
        """Mark what is still open as killed; it opens again when the study goes on."""
        for run in [*self._open_runs.values()]:
            self._end(run, "KILLED", at)

    def _open_trial(
        self, number: int, at: int, network: str = "", tags: Mapping[str, str] | None = None
    ) -> KnownRun:
        name = f"trial-{number:03d} {network}".strip()
        return self._open(Key("trial", str(number)), name, at, tags or {})

    def _open_fold(self, number: int, fold: str, fit_id: str, at: int) -> KnownRun:
        label = f"fold-{fold}" if fold.isdigit() else fold
        parent = self._runs.get(Key("trial", str(number))) or self._open_trial(number, at)
        tags = {"fold": fold, "mlflow.parentRunId": parent.run_id}
        return self._open(Key("fold", str(number), fit_id), f"trial-{number:03d}/{label}", at, tags)

    def _open(self, key: Key, name: str, at: int, tags: Mapping[str, str]) -> KnownRun:
        run = self._runs.get(key)
        if run is None:
            found_by = {field: value for field, value in key._asdict().items() if value}
            created = self._client.create_run(
                self._experiment_id,
                start_time=at,
                run_name=name,
                tags={**self._tags, **tags, **found_by},
            )
            run = self._runs[key] = KnownRun(key, created.info.run_id, "RUNNING", {}, set(), epochs=set())
            self._is_now(run, "RUNNING")
        return run

    def _reopen(self, run: KnownRun) -> KnownRun:
        """Go on with a run that was interrupted; a finished one stays finished."""
        if run.status not in ("RUNNING", "FINISHED"):
            self._client.update_run(run.run_id, status="RUNNING")
            self._is_now(run, "RUNNING")
        return run

    def _end(self, run: KnownRun, status: str, at: int) -> None:
        if run.status != status:
            self._client.set_terminated(run.run_id, status, end_time=at)
            self._is_now(run, status)

    def _is_now(self, run: KnownRun, status: str) -> None:
        run.status = status
        if status == "RUNNING":
            self._open_runs[run.key] = run
        else:
            self._open_runs.pop(run.key, None)

    def _dethrone(self, champion: KnownRun) -> None:
        for run in self._runs.values():
            if run.is_champion and run is not champion:
                self._client.set_tag(run.run_id, "champion", "false")
                run.is_champion = False
        champion.is_champion = True

    def _log_datasets(self, run: KnownRun, datasets: Sequence[Sequence[Any]]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

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
        if inputs:
            self._client.log_inputs(run.run_id, datasets=inputs)

    def _log_params(self, run: KnownRun, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        new = [Param(name, _text(value)) for name, value in params.items() if name not in run.params]
        for some in _chunks(new, MAX_PARAMS):
            self._client.log_batch(run.run_id, params=some)
        run.params |= params.keys()

    def _log_curves(self, run: KnownRun, rows: Sequence[Mapping[str, float]], at: int) -> None:
        from mlflow.entities import Metric

        if run.epochs is None:
            run.epochs = self._epochs(run)
        by_step = {int(row["epoch"]) + self._first_epoch: row for row in rows}
        new = {step: row for step, row in by_step.items() if step not in run.epochs}
        points = [
            Metric(name, float(row[name]), at, step)
            for step, row in new.items()
            for name in CURVES
            if row.get(name) is not None and not math.isnan(row[name])
        ]
        for some in _chunks(points, MAX_METRICS):
            self._client.log_batch(run.run_id, metrics=some)
        run.epochs |= new.keys()

    def _epochs(self, run: KnownRun) -> set[int]:
        histories = (
            self._client.get_metric_history(run.run_id, name) for name in CURVES if name in run.metrics
        )
        return {int(point.step) for history in histories for point in history}

    def _counted(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """With the best epoch as its step is called."""
        shift = {"best_epoch": metrics["best_epoch"] + self._first_epoch} if "best_epoch" in metrics else {}
        return {**metrics, **shift}

    def _log_metrics(self, run: KnownRun, metrics: Mapping[str, float], at: int) -> None:
        from mlflow.entities import Metric

        new = {name: float(value) for name, value in metrics.items() if run.metrics.get(name) != value}
        for some in _chunks([Metric(name, value, at, 0) for name, value in new.items()], MAX_METRICS):
            self._client.log_batch(run.run_id, metrics=some)
        run.metrics |= new


def _open_experiment(
    client: MlflowClient, name: str, artifact_location: str | None, tags: Mapping[str, str]
) -> str:
    experiment: Experiment | None = client.get_experiment_by_name(name)
    if experiment is None:
        return client.create_experiment(name, artifact_location, tags=dict(tags))
    if experiment.lifecycle_stage == "deleted":  # the study goes on, so its experiment is wanted again
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def _read_runs(
    client: MlflowClient, experiment_id: str, study_tags: Mapping[str, str]
) -> Iterator[tuple[Key, KnownRun]]:
    """The runs of this study: another one may have had its name before."""
    token = None
    while True:
        page = client.search_runs([experiment_id], "tags.role != ''", max_results=1000, page_token=token)
        for run in page:
            tags = run.data.tags
            if tags.get("study_id") != study_tags.get("study_id"):
                continue
            key = Key(tags["role"], tags.get("trial", ""), tags.get("fit_id", ""))
            known = KnownRun(
                key,
                run.info.run_id,
                run.info.status,
                run.data.metrics,
                set(run.data.params),
                epochs=None,
                first_epoch=int(tags.get(FIRST_EPOCH, "0")),
                is_champion=tags.get("champion") == "true",
            )
            yield key, known
        token = page.token
        if not token:
            return


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
