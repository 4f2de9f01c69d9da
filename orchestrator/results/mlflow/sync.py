"""Brings the runs of a study in MLflow up to its records on disk, which are the one truth.

What a run has already is known by its tags, status and metrics, so a sync may be interrupted anywhere and repeated;
what this process has written completely is not looked at again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.common.redaction import without_secrets
from orchestrator.common.stored_json import Unreadable
from orchestrator.data.cases import Case
from orchestrator.data.followed import followed_cases
from orchestrator.results.export.exported_network import fold_scores
from orchestrator.results.mlflow.client import is_refusal
from orchestrator.results.mlflow.parameters import (
    ended,
    fit_datasets,
    fit_params,
    length,
    source_tags,
    study_params,
    trial_params,
)
from orchestrator.results.mlflow.runs.known_runs import LAYOUT
from orchestrator.results.mlflow.runs.step_images import image_key
from orchestrator.results.mlflow.runs.study_runs import StudyRuns
from orchestrator.results.mlflow.summary import Summary
from orchestrator.results.mlflow.tags import WRITTEN_AS, dataset_use, split_tags
from orchestrator.results.mlflow.ui.notes import champion_note, experiment_note, study_note, trial_note
from orchestrator.results.mlflow.ui.views import TRAINING, view_tags
from orchestrator.results.provenance import environment_file
from orchestrator.results.sinks.measures import own_scores
from orchestrator.results.sinks.records import FinishedFit, KnownTrial, StudyRecords, fold_label
from orchestrator.search.records.cut_fits import CutFit
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.ledger import folders
from orchestrator.search.records.status import read_status
from orchestrator.search.records.trial_score import TrialScore, fold_specs
from orchestrator.search.space.keys import plain
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial

if TYPE_CHECKING:
    from orchestrator.results.views.followed_cases import FollowedImage

logger = logging.getLogger(__name__)
# MLflow's kind of experiments whose runs train models, not agents.
EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}
VERDICT = ("action", "reason", "against", "numbers")
# A trial that is complete, its score and the cases by id -> file name -> PNG.
Draw = Callable[[StudyTrial, TrialScore, Mapping[str, Case]], dict[str, bytes]]
# A study -> file name -> content of its report and plots.
Report = Callable[[StudySnapshot], Mapping[str, bytes]]
REPORT = "report"  # their folder
Rows = Mapping[
    tuple[int, int, str], Mapping[int, Mapping[str, float]]
]  # (trial, fold, fit id) -> epoch -> row


def draw_trial(trial: StudyTrial, score: TrialScore, cases: Mapping[str, Case]) -> dict[str, bytes]:
    from orchestrator.results.views.trial_pictures import trial_pictures  # matplotlib: no start waits for it

    return trial_pictures(trial, score, cases)


def draw_report(study: StudySnapshot) -> Mapping[str, bytes]:
    from orchestrator.results.report.files import report_files

    return report_files(study)


class StudySync:
    """Writes one study to MLflow; remembers what it has written. Used by one thread."""

    def __init__(self, study: StudyStore, pictures: Draw = draw_trial, report: Report = draw_report) -> None:
        self.study, self.pictures, self.report = study, pictures, report
        self.records = StudyRecords(study)
        self.written: dict[int, tuple[str, int]] = {}  # trial that is over -> state, and its fits on record
        self._fits: set[tuple[int, str]] = set()  # trial and fit: its run is complete
        self._cut: set[tuple[int, str]] = set()
        self._source: dict[str, str] = {}  # tags

    @property
    def num_missing(self) -> int:
        """Trials of which something may not be written."""
        return len(self.records.trials) - len(self.written)

    def look(self) -> None:
        """Read what is new on record."""
        self.records.update()

    def write(self, runs: StudyRuns, in_flight: Rows, *, is_running: bool) -> None:
        """Write what MLflow lacks.

        `in_flight`: epochs of fits that are not finished; `is_running`: the search goes on.
        """
        self._source = source_tags(self.study.folder)
        self._study(runs, is_running)
        for known in self.records.trials.values():
            try:
                self._trial(runs, known, is_running)
            except Exception as error:
                if not is_refusal(error):
                    raise
                logger.warning("MLflow refused trial %d: %s", known.number, without_secrets(str(error)))
                self._note(known)
        for cut in chain.from_iterable(self.records.cut_fits.values()):
            self._cut_fit(runs, cut)
        for (number, fold, fit_id), rows in in_flight.items():
            known_trial = self.records.trials.get(number)
            if known_trial is not None and not known_trial.is_over and fit_id not in self.records.on_record:
                runs.epochs(number, self._label(fold), fit_id, list(rows.values()), _now())

    def completed(self, runs: StudyRuns) -> None:
        """Note that MLflow has all that is on record, as this version writes it."""
        runs.experiment_tags({WRITTEN_AS: f"{LAYOUT} {self.study.study_id}"}, None)

    def summarise(self, runs: StudyRuns, summary: Summary) -> None:
        """Write the end of the study."""
        for number, late in summary.trials.items():
            runs.trial_scores(number, late.metrics, late.tags, _now(), late.note)
        if (fold := summary.fold) is not None:
            runs.fold_finished(fold.trial, fold.label, fold.fit_id, (), fold.metrics, _now())
        runs.study_tags(summary.tags, _now())
        runs.summary(summary.metrics, _now(), self._end_note(runs, summary))

        if summary.end is not None:
            self._report(runs)

    def _report(self, runs: StudyRuns) -> None:
        """Store the report and its plots, where records have changed since; drawing it takes seconds."""
        if runs.has_study_files(REPORT, state := self._state()):
            return
        try:
            files = self.report(self.study.snapshot())
        except Exception:  # everything else is written, and the command `report` shows what is wrong
            logger.exception("the report of %s could not be drawn, so MLflow has none", self.study.name)
            return
        runs.study_folder(REPORT, files, state, _now())

    def _state(self) -> str:
        """A digest of what is on record."""
        ledger = self.study.ledger
        scores = sorted(path.name for path in folders(ledger.scores))
        content = [sorted(self.records.on_record), scores, sorted(self.written.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def _end_note(self, runs: StudyRuns, summary: Summary) -> str | None:
        if (end := summary.end) is None:
            return None
        run_id = runs.run_id("trial", str(end.champion.number))
        link = f"#/experiments/{runs.experiment_id}/runs/{run_id}?{TRAINING}"
        question = study_note(self.study, self.records.plan, len(self.records.trials), summary.ended)
        return f"{champion_note(end.champion, link, summary.metrics, end.reasons)}\n\n{question}"

    def _study(self, runs: StudyRuns, is_running: bool) -> None:
        sources, unseen = self.records.datasets
        uses = [dataset_use(one, "source") for one in sources] + [
            dataset_use(one, "unseen") for one in unseen
        ]
        plan, ends = self.records.plan, _tags(self.study)
        params, tags = study_params(self.study, plan), self._source | ends
        runs.study(uses, _now(), params=params, tags=tags, is_running=is_running)
        runs.study_files(_files(self.study), _now())
        searched = [*dict.fromkeys(map(plain, self.records.space.search))]
        views = view_tags(searched, self._own_metrics(), self._followed_keys, len(plan.folds))
        runs.experiment_tags(EXPERIMENT | views | split_tags(plan), experiment_note(self.study, plan))

    @cached_property
    def _followed_keys(self) -> list[str]:
        """The names of the images by epoch: of the first fold, so that all trials show the same cases."""
        val = [self._cases[one] for one in self.records.plan.folds[0].val if one in self._cases]
        return [image_key(case_id) for case_id in followed_cases(val)]

    def _own_metrics(self) -> list[str]:
        """Metrics that a trial of this study is ranked by, apart from its Dice."""
        objective = [] if self.records.objective.is_mean else ["objective"]
        return objective + [f"objective_{name.replace('-', '_')}" for name in self.records.secondary.names]

    def _trial(self, runs: StudyRuns, known: KnownTrial, is_running: bool) -> None:
        fits = self.records.fits_of(known)
        if self.written.get(known.number) == (known.state, len(fits)):
            return
        new = [fit for fit in fits if not self._has(runs, fit)]
        if known.is_over and not new and runs.has_ended(known.number, known.state):
            self._note(known)
            return
        trial = self.records.read_trial(known) if known.is_over else None
        records = {fit.fit_id: record for fit in new if (record := self.records.find(fit)) is not None}
        sources = [dataset_use(dataset, "source") for dataset in self.records.datasets[0]]
        start = min((ended(record) - length(record) for record in records.values()), default=_begun(known))
        params = trial_params(known.configuration, known.params)
        is_running = is_running and not known.is_over
        runs.trial(known.number, params, sources, start, tags=self._source, is_running=is_running)
        for fit in new:
            if (record := records.get(fit.fit_id)) is not None:
                self._fold(runs, known, fit, record, trial)
        if (verdict := self.records.verdicts.get(known.number)) is not None:
            compared = verdict["numbers"].get("compared_with", verdict["against"])
            compared = {"compared_with": None if compared is None else int(compared)}
            runs.verdict(known.number, {name: verdict[name] for name in VERDICT} | compared, _now())
        if trial is not None:
            self._over(runs, known, trial)
        elif fits and not runs.has_shown(known.number, len(fits)):
            metrics = self.records.metrics_of(self.records.read_trial(known))
            runs.trial_scores(known.number, metrics, {}, _now())

    def _has(self, runs: StudyRuns, fit: FinishedFit) -> bool:
        key = fit.trial, fit.fit_id
        if key not in self._fits and runs.has_fold(*key):
            self._fits.add(key)
        return key in self._fits

    def _fold(
        self,
        runs: StudyRuns,
        known: KnownTrial,
        fit: FinishedFit,
        record: FitRecord,
        trial: StudyTrial | None,
    ) -> None:
        """All epochs and the scores of a fold; by the masks of its trial where those are known by now."""
        metrics = own_scores(record, known.configuration.masks)
        metrics |= {"best_epoch": record.best_epoch, "seconds": record.seconds}
        if trial is not None and (score := trial.score()) is not None and not fit.is_reevaluation:
            metrics |= fold_scores(record, score.masks)
        # A file that was copied has the time of the copy, so the trial's own time is the latest one.
        end = ended(record) if fit.is_reevaluation else min(ended(record), _closed(known))
        if fit.label == self._label(0):
            runs.followed(
                fit.trial, fit.label, fit.fit_id, lambda: self._followed(record), end, end - length(record)
            )
        runs.fold_finished(
            fit.trial,
            fit.label,
            fit.fit_id,
            record.curves,
            metrics,
            end,
            end - length(record),
            params=fit_params(record.spec, known.params),
            datasets=fit_datasets(record.spec),
            tags=self._source,
        )
        self._fits.add((fit.trial, fit.fit_id))

    def _followed(self, record: FitRecord) -> list[FollowedImage]:
        from orchestrator.results.views.followed_cases import followed_images

        try:
            return [*followed_images(record, self._cases)]
        except Unreadable as error:  # only images are lost
            logger.warning("%s: %s; MLflow has no images of it by epoch", record.folder, error)
            return []

    def _over(self, runs: StudyRuns, known: KnownTrial, trial: StudyTrial) -> None:
        if runs.has_ended(known.number, known.state):  # but for fits that came on record later
            self._note(known)
            return
        score = trial.score() if trial.state != "failed" else None
        if trial.state == "complete" and score is None:
            return  # a record was damaged: the next search makes it again
        if score is not None:
            for fit, record in zip(self.records.fits_of(known), trial.records, strict=False):
                scores = fold_scores(record, score.masks)
                runs.fold_finished(known.number, fit.label, record.fit_id, (), scores, ended(record))
            runs.pictures(known.number, self.pictures(trial, score, self._cases), _now())
        for cut in self.records.cut_fits.get(known.number, ()):
            self._cut_fit(runs, cut)
        metrics = self.records.metrics_of(trial)
        note = trial_note(trial, metrics, self.records.objective)
        runs.trial_finished(known.number, metrics, trial.state, trial.error, _closed(known), note)
        self._note(known)

    def _cut_fit(self, runs: StudyRuns, cut: CutFit) -> None:
        """Write the run of a cut fit; one that came on record a moment later has a run of its own."""
        key, known = (cut.trial, cut.fit_id), self.records.trials.get(cut.trial)
        if key in self._cut or known is None or not known.is_over or cut.fit_id in self.records.on_record:
            return
        if not runs.has_cut_fold(*key):
            spec = fold_specs(known.configuration, self.records.plan)[cut.fold]
            runs.fold_cut(
                cut.trial,
                self._label(cut.fold),
                cut.fit_id,
                cut.rows,
                known.state,
                _closed(known),
                params=fit_params(spec, known.params),
                datasets=fit_datasets(spec),
                tags=self._source,
            )
        self._cut.add(key)

    def _note(self, known: KnownTrial) -> None:
        self.written[known.number] = (known.state, len(self.records.fits_of(known)))

    def _label(self, fold: int) -> str:
        return fold_label(self.records.plan.folds[fold].name, fold)

    @cached_property
    def _cases(self) -> dict[str, Case]:
        return {case.id: case for dataset in self.records.datasets[0] for case in dataset.cases}


def _files(study: StudyStore) -> dict[str, str]:
    """File name -> text of search space, split and environment of a study, as far as they exist."""
    files = {
        "search_space.toml": study.space_file,
        "splits.json": study.splits_file,
        "environment.json": environment_file(study.folder),
    }
    return {name: _text(file) for name, file in files.items() if file.exists()}


def _tags(study: StudyStore) -> dict[str, str]:
    """Tags of the study's own run: why no new trial was begun, and the number of workers per fit, if chosen."""
    status, end = read_status(study.status_file), study.ledger.trials.end()
    tags = {} if end is None else {"ended_by": str(end["by"]), "ended_why": str(end["why"])}
    if status is not None and status.end is not None and status.ended_by is not None:
        tags = {"ended_by": status.ended_by, "ended_why": status.end}
    if status is not None and status.workers_per_fit is not None:
        tags["workers_per_fit"] = str(status.workers_per_fit)
        tags["workers_per_fit_why"] = status.workers_per_fit_why or ""
    return tags


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _begun(known: KnownTrial) -> int:
    """When a trial was begun, in milliseconds."""
    return _milliseconds(known.trial.datetime_start)


def _closed(known: KnownTrial) -> int:
    """When a trial was closed, in milliseconds."""
    return _milliseconds(known.trial.datetime_complete)


def _milliseconds(time: datetime | None) -> int:
    return _now() if time is None else round(1000 * time.timestamp())


def _now() -> int:
    return round(1000 * time.time())
