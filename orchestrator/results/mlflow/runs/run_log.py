"""Writes into a run what it lacks, in one call: parameters, metrics, curves, tags, its description and its data."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.common.redaction import without_secrets
from orchestrator.results.mlflow.client import is_refusal
from orchestrator.results.mlflow.runs.known_runs import KnownRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

logger = logging.getLogger(__name__)

# What a row of an epoch calls a value -> its metric. `learning_rate` is a parameter, so its course has another name.
CURVES = {
    "train_loss": "train_loss",
    "val_loss": "val_loss",
    "val_dice": "val_dice",
    "learning_rate": "lr",
    "images_per_second": "images_per_second",
}
# Parameters that have the name of a score -> what they are called in MLflow.
RENAMED = {"precision": "numeric_precision"}
NOTE, NOTE_DIGEST = "mlflow.note.content", "note_digest"
# Characters that MLflow takes.
MAX_DIGEST, MAX_TAG, MAX_PARAM = 36, 4000, 6000
NOTHING: Mapping[str, Any] = MappingProxyType({})


class DatasetUse(NamedTuple):
    """A dataset of a run, with its number of cases and its use."""

    name: str
    digest: str
    num_cases: int
    context: (
        str  # "source": searched on; "training", "validation": of one fit; "unseen": scored once at the end
    )


class RunLog:
    """Writes to the runs of one study; `first_epoch`: the step of their first epoch."""

    def __init__(self, client: MlflowClient, first_epoch: int = 1) -> None:
        self._client, self.first_epoch = client, first_epoch

    def log(
        self,
        run: KnownRun,
        at: int,
        *,
        metrics: Mapping[str, float] = NOTHING,
        params: Mapping[str, Any] = NOTHING,
        tags: Mapping[str, str] = NOTHING,
        rows: Sequence[Mapping[str, float]] = (),
        note: str | None = None,
    ) -> None:
        """Write the values that differ from those of the run, in one call; `note`: description in Markdown.

        Not replaced are parameters of the run, which MLflow lets nobody change, and a description that a user
        wrote.
        """
        from mlflow.entities import Metric, Param, RunTag

        texts = {RENAMED.get(name, name): as_text(value)[:MAX_PARAM] for name, value in params.items()}
        fresh = {name: text for name, text in texts.items() if name not in run.params}
        run.params |= fresh
        numbers = {apart(name, run.params): float(value) for name, value in metrics.items()}
        numbers = {
            name: value for name, value in numbers.items() if not _is_same(run.metrics.get(name), value)
        }
        texts = {name: value[:MAX_TAG] for name, value in (*tags.items(), *noted(note, run.tags).items())}
        texts = {name: value for name, value in texts.items() if run.tags.get(name) != value}
        points = self._curve(run, rows, at)
        self._write(
            run,
            [*points, *(Metric(name, value, at, 0) for name, value in numbers.items())],
            [Param(name, value) for name, value in fresh.items()],
            [RunTag(name, value) for name, value in texts.items()],
        )
        run.metrics |= numbers | {point.key: point.value for point in points}
        run.tags |= texts
        for point in points:
            run.steps.setdefault(point.key, set()).add(int(point.step))

    def datasets(self, run: KnownRun, datasets: Sequence[Sequence[Any]]) -> None:
        """Log the data of a run that has none yet."""
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

    def _write(self, run: KnownRun, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        """Write a batch in one call; if MLflow refuses it, one call per name, so that the rest is written."""
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

    def _curve(self, run: KnownRun, rows: Sequence[Mapping[str, float]], at: int) -> list[Metric]:
        """Points of curves that a run lacks; `at`: end of the last row's epoch, milliseconds since 1970."""
        from mlflow.entities import Metric

        points = []
        for time, row in zip(_times(rows, at), rows, strict=True):
            step = int(row["epoch"]) + self.first_epoch
            points += [
                Metric(metric, float(row[name]), time, step)
                for name, metric in CURVES.items()
                if row.get(name) is not None
                and not math.isnan(row[name])
                and step not in self._steps(run, metric)
            ]
        return points

    def _steps(self, run: KnownRun, metric: str) -> set[int]:
        """Steps of a curve that MLflow has; looked up once per run and metric."""
        if metric not in run.steps:
            history = self._client.get_metric_history(run.run_id, metric) if metric in run.metrics else ()
            run.steps[metric] = {int(point.step) for point in history}
        return run.steps[metric]


def apart(metric: str, params: Container[str]) -> str:
    """Name of a metric in a run: with `_used` where a parameter has the same name, as `threshold_used`.

    A score keeps its name in runs of earlier versions, which did not rename parameters.
    """
    return f"{metric}_used" if metric in params and metric not in RENAMED else metric


def noted(note: str | None, tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a description; {} if there is none, or if a user has written another one since."""
    if note is None:
        return {}
    note, there = note[:MAX_TAG], tags.get(NOTE)
    if there is not None and _digest(there) != tags.get(NOTE_DIGEST):
        return {}
    return {NOTE: note, NOTE_DIGEST: _digest(note)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _times(rows: Sequence[Mapping[str, float]], end: int) -> list[int]:
    """End of each epoch in milliseconds, from the end of the last one and the seconds of each row."""
    left, times = 0.0, []
    for row in reversed(rows):
        times.append(end - round(1000 * left))
        left += row.get("seconds", 0.0)
    return times[::-1]


def _is_same(known: float | None, value: float) -> bool:
    return known == value or (known is not None and math.isnan(known) and math.isnan(value))


def as_text(value: Any) -> str:
    """A value as text for MLflow: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
