"""The runs of one study in MLflow, found again by their tags, so that what is written twice is there once.

One experiment a study. Its runs carry the tag `role`: one "study" (files, summary), one "trial" a trial
(parameters, scores) and, below it, one "fold" a fit (curves); a "refit" and an "ensemble" are runs next to their trial.
Trials are not nested in the study: the compare view and the parallel-coordinates plot then show them without unfolding
anything.

A trial that the race stopped is FINISHED, as one with all folds, and its tag `state` says "stopped": MLflow shows
KILLED as a failure, and here it means that the search was interrupted and may go on.

Epochs are counted from 1, in records from 0; a study that an earlier version began to write from 0 goes on from 0, so
that no curve has mixed steps, and a warning says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.results.mlflow.runs.known_runs import LAYOUT, LAYOUT_TAG, Key, KnownRun
from orchestrator.results.mlflow.runs.run_log import NOTHING, RunLog, as_text
from orchestrator.results.mlflow.runs.run_table import RunTable
from orchestrator.results.mlflow.runs.step_images import FOLDER, TAG, step_image_files

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from orchestrator.results.views.followed_cases import FollowedImage

logger = logging.getLogger(__name__)

STATUS = {"complete": "FINISHED", "failed": "FAILED", "stopped": "FINISHED"}
# Tags of earlier versions that have another name now: of any run, and of what was chosen at the end.
FORMER = ("twin_pairs", "twin_pairs_between")
FORMER_CHOICE = ("scored_again", "not_told_from_winner", "beats_default")


class StudyRuns:
    """Writes the runs of one study: what MLflow holds is read once, and only what differs is written.

    Times are milliseconds since 1970. MLflow's errors are raised if it does not answer; values that it
    refuses for good are logged and left out.
    """

    def __init__(
        self, client: MlflowClient, experiment: str, artifact_location: str | None, tags: Mapping[str, str]
    ) -> None:
        self._table = RunTable(client, experiment, artifact_location, tags)
        self._log = RunLog(client, self._table.first_epoch)
        if self._table.first_epoch == 0:
            logger.warning(
                "the runs of %s in MLflow were begun with epochs counted from 0, and continue so", experiment
            )

    @property
    def experiment_id(self) -> str:
        return self._table.experiment_id

    def run_id(self, role: str, trial: object = "", fit_id: str = "") -> str | None:
        """The id of a run; None where there is none."""
        run = self._table.find(role, trial, fit_id)
        return None if run is None else run.run_id

    def experiment_tags(self, tags: Mapping[str, str], note: str | None) -> None:
        """Tag the experiment, and describe it in Markdown, unless a user did."""
        self._table.tag_experiment(tags, note, frozenset(FORMER))

    def has_ended(self, number: int, state: str) -> bool:
        """Whether the run of a trial is complete and has this state."""
        run = self._table.find("trial", number)
        return run is not None and run.is_whole and run.tags.get("state") == state

    def has_shown(self, number: int, folds: int) -> bool:
        """Whether the run of a trial has the metrics of this number of finished folds."""
        run = self._table.find("trial", number)
        return run is not None and run.metrics.get("folds_seen") == folds

    def has_fold(self, number: int, fit_id: str) -> bool:
        """Whether the run of a finished fit is complete, except for scores by the masks of its trial."""
        run = self._table.find("fold", number, fit_id)
        return run is not None and run.is_whole and not run.is_cut

    def has_cut_fold(self, number: int, fit_id: str) -> bool:
        """Whether the run of a fit that was cut has everything on record of the fit."""
        run = self._table.find("fold", number, fit_id)
        return run is not None and run.is_whole

    def study(
        self,
        datasets: Sequence[Sequence[Any]],
        at: int,
        *,
        params: Mapping[str, Any] = NOTHING,
        tags: Mapping[str, str] = NOTHING,
        note: str | None = None,
        is_running: bool = True,
    ) -> None:
        """Create the study's run if missing, and describe it in Markdown; `is_running`: it goes on."""
        run = self._table.study(at)
        self._log.datasets(run, datasets)
        self._log.log(run, at, params=params, tags={**tags, **self._whole(run)}, note=note)
        if is_running:
            self._table.reopen(run, finished=True)

    def study_files(self, files: Mapping[str, str], at: int) -> None:
        """Store text files, name -> content, in the study's run, unless it has these very files."""
        run = self._table.study(at)
        digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
        if run.tags.get("files") != digest:
            for name, text in files.items():
                self._table.store_text(run, name, text)
            self._log.log(run, at, tags={"files": digest})

    def has_study_files(self, folder: str, state: str) -> bool:
        """Whether the study's run has the files of this folder, made from this state of its records."""
        run = self._table.find("study")
        return run is not None and run.tags.get(f"state_of_{folder}") == state

    def study_folder(self, folder: str, files: Mapping[str, bytes], state: str, at: int) -> None:
        """Store files, name -> content, in a folder of the study's run, with the state of its records."""
        run = self._table.study(at)
        self._table.store(run, files, folder)
        self._log.log(run, at, tags={f"state_of_{folder}": state})

    def trial(
        self,
        number: int,
        params: Mapping[str, Any],
        datasets: Sequence[Sequence[Any]],
        at: int,
        *,
        tags: Mapping[str, str] = NOTHING,
        is_running: bool = True,
    ) -> None:
        """Create a trial's run if missing; parameters that it has are kept, as MLflow lets none change."""
        run = self._table.trial(number, at, str(params.get("network", "")))
        self._log.datasets(run, datasets)
        network = {"network": str(params["network"])} if "network" in params else {}
        self._log.log(run, at, params=params, tags={**network, **tags})
        if is_running:
            self._table.reopen(run)

    def epochs(
        self, number: int, fold: str, fit_id: str, rows: Sequence[Mapping[str, float]], at: int
    ) -> None:
        """Write the epochs of a fit in flight that MLflow does not have yet."""
        run = self._table.fold(number, fold, fit_id, at)
        if run.status != "FINISHED":
            self._table.reopen(run)
            self._log.log(run, at, rows=rows)

    def fold_finished(
        self,
        number: int,
        fold: str,
        fit_id: str,
        rows: Sequence[Mapping[str, float]],
        metrics: Mapping[str, float],
        at: int,
        start: int | None = None,
        *,
        params: Mapping[str, Any] = NOTHING,
        datasets: Sequence[Sequence[Any]] = (),
        tags: Mapping[str, str] = NOTHING,
    ) -> None:
        """Complete a fold: all of its epochs, its scores, parameters and data."""
        run = self._table.fold(number, fold, fit_id, at if start is None else start)
        self._log.datasets(run, datasets)
        rows = () if run.is_whole and not run.is_cut else rows
        marks = {"cut": "false"} if run.is_cut and rows else {}
        metrics = self._counted(metrics)
        self._log.log(
            run, at, metrics=metrics, params=params, rows=rows, tags={**tags, **self._whole(run), **marks}
        )
        self._table.end(run, "FINISHED", at)

    def followed(
        self,
        number: int,
        fold: str,
        fit_id: str,
        images: Callable[[], Iterable[FollowedImage]],
        at: int,
        start: int,
    ) -> None:
        """Store the images that a fit follows by epoch, unless its run is complete; before `fold_finished`."""
        run = self._table.fold(number, fold, fit_id, start)
        if run.is_whole and not run.is_cut:
            return
        if files := step_image_files(fit_id, images(), self._log.first_epoch, at):
            self._table.store(run, files, FOLDER)
            self._log.log(run, at, tags=TAG)

    def fold_cut(
        self,
        number: int,
        fold: str,
        fit_id: str,
        rows: Sequence[Mapping[str, float]],
        state: str,
        at: int,
        *,
        params: Mapping[str, Any] = NOTHING,
        datasets: Sequence[Sequence[Any]] = (),
        tags: Mapping[str, str] = NOTHING,
    ) -> None:
        """Complete the run of a fit that was left unfinished, since its trial was stopped or failed."""
        run = self._table.fold(number, fold, fit_id, at)
        self._log.datasets(run, datasets)
        self._log.log(run, at, params=params, rows=rows, tags={**tags, **self._whole(run), "cut": "true"})
        self._table.end(run, STATUS[state], at)

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
        start: int,
        note: str | None = None,
    ) -> str:
        """Complete the run of an exported network, new for a refit or an ensemble; returns its id."""
        if kind == "fold":
            run = self._table.fold(number, label, fit_id, at)
        else:
            run = self._table.open(Key(kind, str(number), fit_id), f"trial-{number:03d} {label}", start)
        self._log.datasets(run, datasets)
        self._log.log(
            run, at, metrics=metrics, params=params, tags={**tags, **self._whole(run)}, rows=rows, note=note
        )
        self._table.end(run, "FINISHED", at)
        return run.run_id

    def verdict(self, number: int, verdict: Mapping[str, Any], at: int) -> None:
        """Tag a trial with the last verdict of the race on it: action, reason, compared trial, numbers."""
        tags = {
            "race" if name == "action" else f"race_{name}": as_text("" if value is None else value)
            for name, value in verdict.items()
        }
        self._log.log(self._table.trial(number, at), at, tags=tags)

    def trial_finished(
        self,
        number: int,
        metrics: Mapping[str, float],
        state: str,
        error: str | None,
        at: int,
        note: str | None = None,
    ) -> None:
        """Complete a trial's run, with its description in Markdown; runs of its open folds end with it."""
        run = self._table.trial(number, at)
        reason = {} if not error else {"stopped_because" if state == "stopped" else "error": error}
        if state == "stopped":  # an earlier version called it an error
            self._table.drop_tag(run, "error")
        self._log.log(run, at, metrics=metrics, tags={"state": state, **self._whole(run)} | reason, note=note)
        for fold in self._table.running():
            if fold.key.role == "fold" and fold.key.trial == str(number):
                self._log.log(fold, at, tags={"cut": "true", **self._whole(fold)})
                self._table.end(fold, STATUS[state], at)
        self._table.end(run, STATUS[state], at)

    def trial_scores(
        self,
        number: int,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        at: int,
        note: str | None = None,
    ) -> None:
        """Add scores of a trial before its end, or at the study's end; a former one is tagged false."""
        run = self._table.trial(number, at)
        if tags.get("champion") == "true":
            for other in self._table:
                if other is not run and other.tags.get("champion") == "true":
                    self._log.log(other, at, tags={"champion": "false"})
        self._log.log(run, at, metrics=metrics, tags=tags, note=note)
        for name in FORMER_CHOICE:
            self._table.drop_tag(run, name)

    def pictures(self, number: int, pictures: Mapping[str, bytes], at: int) -> None:
        """Store PNG pictures, file name -> content, with a trial."""
        if pictures:
            self._table.store(self._table.trial(number, at), pictures, "overlays")

    def study_tags(self, tags: Mapping[str, str], at: int) -> None:
        """Tag the study's own run."""
        self._log.log(self._table.study(at), at, tags=tags)

    def summary(self, metrics: Mapping[str, float], at: int, note: str | None = None) -> None:
        """Complete the study's run; other runs that are still open are marked as killed."""
        run = self._table.study(at)
        self._log.log(run, at, metrics=metrics, note=note)
        self._table.end(run, "FINISHED", at)
        self.interrupted(at)

    def interrupted(self, at: int | None = None) -> None:
        """Mark open runs as killed; they are opened again when the study goes on."""
        for run in self._table.running():
            self._table.end(run, "KILLED", at)

    def _whole(self, run: KnownRun) -> dict[str, str]:
        """Tags of a complete run as this version writes them; those of earlier versions are dropped."""
        for name in FORMER:
            self._table.drop_tag(run, name)
        return {**self._table.tags, LAYOUT_TAG: LAYOUT}

    def _counted(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Metrics, with the best epoch counted from 0 or 1 as the steps of this study are."""
        if "best_epoch" not in metrics:
            return {**metrics}
        return {**metrics, "best_epoch": metrics["best_epoch"] + self._log.first_epoch}
