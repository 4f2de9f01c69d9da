"""The networks that stand for a trial; those that are asked for and not on record are trained and scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.common.display import Display, Progress
from orchestrator.common.errors import BadStudy
from orchestrator.results.views.score_lines import epoch_line
from orchestrator.search.choices import DeviceName, EnsembleName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from orchestrator.ray_cluster.machine import Machine
    from orchestrator.scoring.postprocess import PostProcess
    from orchestrator.search.fit_jobs import FitJobRunner
    from orchestrator.search.records.fit_records import FitRecord
    from orchestrator.search.records.trial_score import TrialScore
    from orchestrator.search.store.snapshot import StudySnapshot
    from orchestrator.search.store.study_store import StudyStore
    from orchestrator.search.store.trials import StudyTrial
    from orchestrator.selection.ensemble import Ensemble
    from orchestrator.selection.mask_values import MaskJob


@dataclass(frozen=True)
class Networks:
    """Networks that represent a trial: the network of a fold, its refit, or several that are averaged."""

    records: Sequence[FitRecord]
    score: TrialScore
    is_ensemble: bool
    team: Ensemble | None
    refits: dict[int, FitRecord]  # trial -> its own


@dataclass(frozen=True)
class Trainer:
    """Trains and scores networks of a study that are not on record, on the Ray cluster of `address`."""

    snapshot: StudySnapshot
    address: str = "auto"
    device: DeviceName = "auto"
    workers_per_fit: int | None = None
    cache: Path | None = None  # None: HOME/cache
    display: Display = field(default_factory=Display)

    @property
    def study(self) -> StudyStore:
        """The folder of the study."""
        return self.snapshot.store

    def networks(
        self,
        standing: Sequence[tuple[StudyTrial, TrialScore]],
        trial: StudyTrial,
        score: TrialScore,
        metric: str,
        ensemble: EnsembleName | None,
        *,
        refit: bool,
    ) -> Networks:
        """Networks of a trial; a refit or an ensemble that is asked for and not on record is made now."""
        if refit and ensemble == "folds":
            raise BadStudy(
                self.study.name,
                "--refit trains one network on all cases, --ensemble averages those of the folds",
            )
        team = self.team(standing, trial, metric) if ensemble in ("greedy", "best") else None
        if team is not None and ensemble == "best" and team.versus is None:
            ensemble = None
        score = score if team is None else team.score
        refits: dict[int, FitRecord] = {}
        if refit:
            trials = team.trials if team is not None and ensemble else (trial,)
            refits = {one.number: self.refit(one) for one in {one.number: one for one in trials}.values()}
            records: Sequence[FitRecord] = [refits[one.number] for one in trials]
        elif team is not None and ensemble:
            records = team.records
        elif ensemble:
            records = _all_folds(self.snapshot, trial)
        else:
            records = [self.snapshot.champion_fit(trial)]
        return Networks(records, score, bool(ensemble), team, refits)

    def team(
        self, standing: Sequence[tuple[StudyTrial, TrialScore]], chosen: StudyTrial, metric: str
    ) -> Ensemble:
        """The ensemble around a trial; scores that its choice needs and that are not on record are made now."""
        from orchestrator.selection.ensemble import select_ensemble
        from orchestrator.study.champion import scoring

        with scoring(self.study, *self._machine_and_work()) as score:
            return select_ensemble(self.snapshot, standing, chosen.number, metric, score)

    def refit(self, trial: StudyTrial) -> FitRecord:
        from orchestrator.study.champion import refit, spec_of_refit

        spec = spec_of_refit(self.study, trial)
        epochs = spec.stop_after or spec.recipe.epochs
        if not self.study.ledger.has(spec.fit_id):
            self.display.note(
                f"refit of trial {trial.number}: {len(spec.train)} images, {epochs} of the {spec.recipe.epochs} epochs "
                "of its schedule, the median of what the folds took to their best one"
            )
        return refit(
            self.study,
            trial,
            *self._machine_and_work(),
            lambda row: self.display.note(epoch_line(row, epochs)),
        )

    def score(self, records: Sequence[FitRecord]) -> None:
        from orchestrator.study.champion import score_networks

        score_networks(self.study, tuple(record.fit_id for record in records), *self._machine_and_work())

    def score_masks(self, trial: StudyTrial, records: Sequence[FitRecord], masks: PostProcess) -> None:
        """Score the masks of a trial's validation images, and those of `records` outside the folds once that is due.

        Left out, and said, where the network of a fold was deleted, and where the study cannot be held: another process
        works on it, or its folder cannot be written to.
        """
        from orchestrator.selection.mask_values import are_on_record, fold_jobs, mask_values, outside_jobs

        jobs = fold_jobs(trial)
        if not trial.has_weights and not are_on_record(self.snapshot, jobs):
            jobs = []
            self.display.note(
                "the model card lacks polyps, NSD and distances of validation images: fold networks of trial "
                f"{trial.number} were deleted"
            )
        if self.snapshot.champion is not None:
            jobs += outside_jobs(self.snapshot, records, masks).values()
        if are_on_record(self.snapshot, jobs):
            return
        try:
            with self.study.lock():
                pass
        except (BadStudy, OSError) as error:
            self.display.note(
                f"the model card lacks polyps, NSD and distances, which need the study to itself: {error}"
            )
            return
        mask_values(self.snapshot, [jobs], self.mask_scores)

    def mask_scores(self, jobs: Sequence[MaskJob]) -> Iterator[Mapping[str, NDArray[np.float64]]]:
        """Scores of the masks of every job in turn, computed in this process on `device`.

        Raises `BadStudy` while another process works on the study, which may delete networks.
        """
        from orchestrator.search.fit_jobs import closing_cases
        from orchestrator.training.process import configure_process, device_here

        device = device_here(self.device)
        num_images, done = sum(len(job.case_ids) for job in jobs), 0
        with self.study.lock(), closing_cases():
            work = self._work()
            configure_process()
            with self.display.bar(f"scoring masks of {num_images:,} images") as on_progress:
                for job in jobs:
                    where = job.records, job.case_ids, job.datasets, job.masks
                    yield work.mask_scores(*where, device, _counter(on_progress, done, num_images))
                    done += len(job.case_ids)

    def _machine_and_work(self) -> tuple[Machine, FitJobRunner]:
        from orchestrator.ray_cluster.machine import Machine

        work = self._work()
        return Machine(self.address, self.device, self.workers_per_fit), work

    def _work(self) -> FitJobRunner:
        """Runner of jobs on the study's data. Raises `BadData` where files changed since their import."""
        from orchestrator.search.fit_jobs import FitJobRunner
        from orchestrator.study.loading import DataChoice

        names = [dataset.name for dataset in (*self.snapshot.datasets, *self.snapshot.unseen)]
        data = DataChoice(self.study.home, names, cache=self.cache)
        data.load_unchanged(self.display)
        return FitJobRunner(self.study.home, data.cache_folder, self.study.ledger)


def _counter(on_progress: Progress, before: int, total: int) -> Callable[[int], None]:
    """Function that reports progress over all images, given the number of images done by one network."""
    return lambda done: on_progress(before + done, total)


def _all_folds(study: StudySnapshot, trial: StudyTrial) -> list[FitRecord]:
    if trial.num_folds == 1:
        raise BadStudy(study.name, "--ensemble folds averages the networks of several folds, found one fold")
    return list(trial.records)
