"""The experiment of one study and its runs, each made once: opened, ended and opened again."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.results.mlflow.runs.known_runs import FIRST_EPOCH, Key, KnownRun, read_runs
from orchestrator.results.mlflow.runs.run_log import noted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

logger = logging.getLogger(__name__)


class RunTable:
    """Experiment and runs of a study in MLflow, read once, then kept up to date."""

    def __init__(
        self, client: MlflowClient, experiment: str, artifact_location: str | None, tags: Mapping[str, str]
    ) -> None:
        self._client, self.name = client, experiment
        self.tags = {"study": experiment, **tags}
        self._experiment = _open_experiment(client, experiment, artifact_location, self.tags)
        self._runs: dict[Key, KnownRun] = {}
        for run in read_runs(client, self.experiment_id, self.tags):
            self._know(run)
        self._running = {run.key: run for run in self if run.status == "RUNNING"}
        self.first_epoch = min((run.first_epoch for run in self._runs.values()), default=1)
        self.tags[FIRST_EPOCH] = str(self.first_epoch)

    @property
    def experiment_id(self) -> str:
        return str(self._experiment.experiment_id)

    def __iter__(self) -> Iterator[KnownRun]:
        return iter(self._runs.values())

    def tag_experiment(
        self, tags: Mapping[str, str], note: str | None, former: Set[str] = frozenset()
    ) -> None:
        """Tag the experiment, and describe it in Markdown, unless a user did; `former`: tags that go."""
        known = self._experiment.tags
        for name in former & known.keys():
            self._client.delete_experiment_tag(self.experiment_id, name)
            del known[name]
        for name, value in {**tags, **noted(note, known)}.items():
            if known.get(name) != value:
                self._client.set_experiment_tag(self.experiment_id, name, value)
                known[name] = value

    def find(self, role: str, trial: object = "", fit_id: str = "") -> KnownRun | None:
        """The run of a role, trial and fit; None where there is none yet."""
        return self._runs.get(Key(role, str(trial), fit_id))

    def running(self) -> list[KnownRun]:
        """Runs that have not ended: few, where `self` may have 100,000."""
        return list(self._running.values())

    def study(self, at: int) -> KnownRun:
        """The study's own run."""
        return self.open(Key("study"), self.name, at)

    def trial(self, number: int, at: int, network: str = "") -> KnownRun:
        """The run of a trial."""
        return self.open(Key("trial", str(number)), f"trial-{number:03d} {network}".strip(), at)

    def fold(self, number: int, fold: str, fit_id: str, at: int) -> KnownRun:
        """The run of a fit of a trial, below the trial's; one that an earlier version named otherwise is renamed."""
        label = f"fold-{fold}" if fold.isdigit() else fold
        parent = self.find("trial", number) or self.trial(number, at)
        tags = {"fold": fold, "mlflow.parentRunId": parent.run_id}
        name = f"trial-{number:03d}/{label}"
        run = self.open(Key("fold", str(number), fit_id), name, at, tags)
        if run.tags.get("fold", fold) != fold:
            self._client.update_run(run.run_id, name=name)
            self._client.set_tag(run.run_id, "fold", fold)
            run.tags["fold"] = fold
        return run

    def open(self, key: Key, name: str, at: int, tags: Mapping[str, str] | None = None) -> KnownRun:
        """The run of a key, which is made where there is none."""
        run = self._runs.get(key)
        if run is None:
            found_by = {field: value for field, value in key._asdict().items() if value}
            all_tags = {**self.tags, **(tags or {}), **found_by}
            created = self._client.create_run(self.experiment_id, start_time=at, run_name=name, tags=all_tags)
            run = KnownRun(key, created.info.run_id, "RUNNING", tags=all_tags)
            self._runs[key] = self._running[key] = run
        return run

    def reopen(self, run: KnownRun, *, finished: bool = False) -> None:
        """Go on with a run that was interrupted; a finished one too, if so."""
        if run.status != "RUNNING" and (finished or run.status != "FINISHED"):
            self._client.update_run(run.run_id, status="RUNNING")
            run.status = "RUNNING"
            self._running[run.key] = run

    def end(self, run: KnownRun, status: str, at: int | None) -> None:
        if run.status != status:
            self._client.set_terminated(run.run_id, status, end_time=at)
            run.status = status
            self._running.pop(run.key, None)

    def drop_tag(self, run: KnownRun, name: str) -> None:
        if run.tags.pop(name, None) is not None:
            self._client.delete_tag(run.run_id, name)

    def store(self, run: KnownRun, files: Mapping[str, bytes], folder: str | None = None) -> None:
        """Store files with a run, name -> content."""
        with tempfile.TemporaryDirectory() as temporary:
            for name, content in files.items():
                (Path(temporary) / name).write_bytes(content)
            self._client.log_artifacts(run.run_id, temporary, folder)

    def store_text(self, run: KnownRun, name: str, text: str) -> None:
        self._client.log_text(run.run_id, text, name)

    def _know(self, run: KnownRun) -> None:
        """Keep one run of each key: a server that hung may carry out a request after it was made once more."""
        other = self._runs.setdefault(run.key, run)
        if other is run:
            return
        kept, late = sorted((run, other), key=lambda one: one.num_values, reverse=True)
        self._client.delete_run(late.run_id)
        self._runs[run.key] = kept
        logger.warning(
            "MLflow had the run of %r twice, because it answered a request late; the emptier one is deleted",
            " ".join(part for part in run.key if part),
        )


def _open_experiment(
    client: MlflowClient, name: str, artifact_location: str | None, tags: Mapping[str, str]
) -> Experiment:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        made = client.create_experiment(name, artifact_location, tags=dict(tags))
        return client.get_experiment(made)
    if experiment.lifecycle_stage == "deleted":  # the study goes on, so its experiment is wanted again
        client.restore_experiment(experiment.experiment_id)
    return experiment
