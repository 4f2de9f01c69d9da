"""A table from plan to numbers: fits that are not on record are trained, then every network is scored.

Nothing that is on record is made again, so that the same command goes on after a kill at any moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from orchestrator.common.display import Display, Progress, counted
from orchestrator.protocols.plan import TablePlan
from orchestrator.protocols.set_scores import OWN, SetScoreJob, SetScores, read_scores
from orchestrator.protocols.work import Places
from orchestrator.protocols.work_units import weight_of
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.space.space import Configuration
from orchestrator.training.recipe import FitSpec

OnUpdate = Callable[[str, Any], None]


class Performer(Protocol):
    """Performs several jobs at a time, as lanes do."""

    def run_all(self, jobs: Mapping[str, Any], on_update: OnUpdate = ...) -> dict[str, str]:
        """Perform jobs; returns job -> why it failed, of those that failed."""


@dataclass(frozen=True)
class RowRun:
    """Scores of one row: seed -> fold -> test set -> scores; the reason where a fit failed."""

    name: str
    scores: Mapping[tuple[int, int, str], SetScores]  # seed, fold, test set
    error: str | None = None


@dataclass(frozen=True)
class TableRun:
    """A table with everything that was scored."""

    plan: TablePlan
    rows: Mapping[str, RowRun]
    devices: tuple[str, ...]
    seconds: float  # of all fits, over all runs


def run_table(
    plan: TablePlan,
    places: Places,
    performer: Callable[[], AbstractContextManager[Performer]],
    display: Display,
) -> TableRun:
    """Train what is not on record, score what is not scored. `performer` is entered if there is anything to do."""
    ledger = places.ledger
    ledger.sweep()
    missing = {
        spec.fit_id: (row.name, spec) for row in plan.rows for spec in row.fits if not ledger.has(spec.fit_id)
    }
    jobs = dict(score_jobs(plan, places))
    open_jobs = [job for job in jobs.values() if read_scores(places.set_scores, job) is None]
    errors: dict[str, str] = {}
    unscored: dict[str, str] = {}
    if missing or open_jobs or len(jobs) < num_scores(plan):
        with performer() as lanes:
            errors = _train(missing, lanes, display)
            jobs = dict(score_jobs(plan, places))
            unscored = _score(jobs.values(), places, lanes, display)
    return gather(plan, places, jobs, errors, unscored)


def _train(missing: Mapping[str, tuple[str, FitSpec]], lanes: Performer, display: Display) -> dict[str, str]:
    """Train the fits; returns fit id -> error, of those that failed."""
    if not missing:
        return {}
    weights = {fit_id: weight_of(spec) for fit_id, (_, spec) in missing.items()}
    with display.bar(f"training {counted(len(missing), 'fit')}") as on_progress:
        show = _Shown(missing, weights, display, on_progress)
        return lanes.run_all({fit_id: spec for fit_id, (_, spec) in missing.items()}, show)


class _Shown:
    """Reports progress over all fits, weighted by the number of operations of each."""

    def __init__(
        self,
        fits: Mapping[str, tuple[str, FitSpec]],
        weights: Mapping[str, int],
        display: Display,
        on_progress: Progress,
    ) -> None:
        self.fits, self.weights, self.display, self.on_progress = fits, weights, display, on_progress
        self.done = dict.fromkeys(fits, 0.0)
        self.over = 0

    def __call__(self, fit_id: str, update: Any) -> None:
        name, spec = self.fits[fit_id]
        for row in update.rows:
            self.done[fit_id] = self.weights[fit_id] * (row["epoch"] + 1) / spec.recipe.epochs
        if update.state in ("finished", "failed"):
            self.over += 1
            self.done[fit_id] = self.weights[fit_id]
            seed = f", seed {spec.recipe.seed}" if spec.recipe.seed else ""
            self.display.note(f"{self.over} of {len(self.fits)} fits: {name}{seed} {update.state}")
        self.on_progress(round(sum(self.done.values())), sum(self.weights.values()))


def _score(jobs: Iterable[SetScoreJob], places: Places, lanes: Performer, display: Display) -> dict[str, str]:
    """Score networks that have no scores yet; returns job -> error, of those that failed."""
    todo = {job.name: job for job in jobs if read_scores(places.set_scores, job) is None}
    if not todo:
        return {}
    over = 0
    with display.bar(f"scoring {counted(len(todo), 'set')} of images") as on_progress:

        def show(name: str, update: Any) -> None:
            nonlocal over
            over += update.state in ("finished", "failed")
            on_progress(over, len(todo))

        return lanes.run_all(todo, show)


Key = tuple[str, int, int, str]  # row, seed, fold, test set


def num_scores(plan: TablePlan) -> int:
    """Number of pairs of a network and a set of images."""
    return sum(len(row.fits) for row in plan.rows) * len(plan.images)


def score_jobs(plan: TablePlan, places: Places) -> Iterator[tuple[Key, SetScoreJob]]:
    """Jobs that score every network on record on every set of images."""
    ledger = places.ledger
    for row in plan.rows:
        for seed, folds in enumerate(row.specs):
            for fold, spec in enumerate(folds):
                if not ledger.has(spec.fit_id):
                    continue
                masks = masks_of(row.configuration, spec, ledger)
                for test in plan.images:
                    job = score_job(plan, row.row.reads, spec.fit_id, places.folder, masks, test, fold)
                    yield (row.name, seed, fold, test), job


def score_job(
    plan: TablePlan, reads: str | None, fit_id: str, ledger: Any, masks: PostProcess, test: str, fold: int
) -> SetScoreJob:
    """Job that scores one network on one set of images."""
    images, columns = plan.images[test], plan.table.columns
    named = [one.score if reads is None else f"{one.score}@{reads}" for one in columns if one.score]
    return SetScoreJob(
        fit_id=fit_id,
        ledger=str(ledger),
        dataset=images.dataset.name,
        fingerprint=images.dataset.fingerprint,
        case_ids=images.of_fold[fold],
        scores=tuple(dict.fromkeys([*named, *OWN])),
        masks=masks.as_dict(),
        times_inference=any(one.measure == "fps" for one in columns),
    )


def masks_of(configuration: Configuration, spec: FitSpec, ledger: Ledger) -> PostProcess:
    """How maps become masks; what is open is the best on the validation images of the fit."""
    choice = configuration.masks
    histograms = ledger.read(spec.fit_id).histograms if choice.is_open else np.zeros((1, 2, 256), np.uint32)
    return choice.best(histograms)


def gather(
    plan: TablePlan,
    places: Places,
    jobs: Mapping[Key, SetScoreJob],
    errors: Mapping[str, str],
    unscored: Mapping[str, str],
) -> TableRun:
    """Read everything that is on record. `errors`: of fits; `unscored`: of scores, by the names of their jobs."""
    scores: dict[str, dict[tuple[int, int, str], SetScores]] = {row.name: {} for row in plan.rows}
    for (name, seed, fold, test), job in jobs.items():
        if (found := read_scores(places.set_scores, job)) is not None:
            scores[name][seed, fold, test] = found
    ledger, runs, devices, seconds = places.ledger, {}, set(), 0.0
    for row in plan.rows:
        failed = [errors[spec.fit_id] for spec in row.fits if spec.fit_id in errors]
        failed += [
            unscored[job.name] for key, job in jobs.items() if key[0] == row.name and job.name in unscored
        ]
        runs[row.name] = RowRun(row.name, scores[row.name], failed[0] if failed else None)
    for spec in {spec.fit_id: spec for row in plan.rows for spec in row.fits}.values():
        if ledger.has(spec.fit_id):
            record = ledger.read(spec.fit_id)
            devices.add(record.device)
            seconds += record.seconds
    return TableRun(plan, runs, tuple(sorted(devices)), seconds)
