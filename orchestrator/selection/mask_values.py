"""Scores of masks, which histograms of probabilities do not give: nsd, distances, polyps as objects.

Every validation image is predicted by the network of the fold that did not see it, and its mask is made as the other
folds choose, as is that of every cross-fitted score; images outside the folds are predicted by the networks that stand
for a trial. All are scored at the size of their file. Scores are kept among what is derived of a study, a set of images
at a time: a command that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orchestrator.common.stored_json import sha256_of
from orchestrator.scoring.components import POLYP_COUNTS, PolypCounts
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.trial_score import by_case, masks_of_folds
from orchestrator.search.store.derived import key_of
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial, fingerprints_of

Columns = Mapping[str, NDArray[np.float64]]  # metric, or count of polyps -> (N,)


@dataclass(frozen=True)
class MaskJob:
    """Images that a network, or the mean of several, predicts, and how its maps become masks."""

    records: tuple[FitRecord, ...]  # one that is named twice counts twice; filters are those of the first
    case_ids: tuple[str, ...]
    datasets: Mapping[str, str]  # that the images are of, name -> fingerprint
    masks: PostProcess

    @cached_property
    def key(self) -> str:
        """Key of the scores: hash of networks, weights, cases and masks."""
        networks = [[one.fit_id, _content(one)] for one in self.records]
        return key_of("scores of masks", networks, list(self.case_ids), self.masks.as_dict())


# For every job in turn the scores of its images, in the order of `case_ids`.
ScoreMasks = Callable[[Sequence[MaskJob]], Iterator[Columns]]


@dataclass(frozen=True)
class MaskValues:
    """Scores of masks: of all validation images, fold by fold, or of one set of images outside the folds."""

    cases: tuple[tuple[str, ...], ...]  # of each fold
    by_fold: tuple[Columns, ...]  # in the order of the fold's cases

    @property
    def case_ids(self) -> tuple[str, ...]:
        """All images, each once, in the order of `by_case`."""
        return tuple(sorted({case_id for fold in self.cases for case_id in fold}))

    def by_case(self, metric: str) -> NDArray[np.float64]:
        """(N,) of `case_ids`: the mean of each image over the folds that validated it."""
        place = np.unique([case_id for fold in self.cases for case_id in fold], return_inverse=True)[1]
        return by_case({"": np.concatenate([fold[metric] for fold in self.by_fold])}, place)[""]


@dataclass(frozen=True)
class ScoredMasks:
    """Scores of masks of a trial that are on record."""

    validation: MaskValues | None = None  # of the networks of its folds
    outside: Mapping[str, MaskValues] = field(
        default_factory=dict
    )  # "test", the hold-out, and unseen datasets by name


def polyps_of(snapshot: StudySnapshot, scored: MaskValues) -> PolypCounts:
    """Polyps as objects in all predictions: with repeated folds an image counts once for each repeat."""
    columns = {name: np.concatenate([fold[name] for fold in scored.by_fold]) for name in POLYP_COUNTS}
    return PolypCounts.of_columns(
        columns, snapshot.groups_of([case_id for fold in scored.cases for case_id in fold])
    )


def fold_jobs(trial: StudyTrial) -> list[MaskJob]:
    """Jobs for the validation images of each fold of a trial."""
    masks = masks_of_folds(trial.records, trial.configuration)
    return [
        MaskJob((record,), tuple(record.case_ids), record.spec.datasets, own)
        for record, own in zip(trial.records, masks, strict=True)
    ]


def outside_jobs(
    snapshot: StudySnapshot, records: Sequence[FitRecord], masks: PostProcess
) -> dict[str, MaskJob]:
    """Jobs for the hold-out and each unseen dataset, with the networks that represent a trial."""
    return {
        name: MaskJob(tuple(records), case_ids, fingerprints_of(snapshot.plan, case_ids), masks)
        for name, case_ids in snapshot.outside_cases.items()
        if case_ids
    }


def mask_values(
    snapshot: StudySnapshot, sets: Sequence[Sequence[MaskJob]], score_masks: ScoreMasks
) -> list[MaskValues]:
    """The scores of each set of jobs in turn; `score_masks` scores what is not on record."""
    jobs = {job.key: job for own in sets for job in own}
    found = {key: kept for key, job in jobs.items() if (kept := _find(snapshot, job)) is not None}
    missing = {key: job for key, job in jobs.items() if key not in found}
    if missing:
        for key, scored in zip(missing, score_masks([*missing.values()]), strict=True):
            snapshot.derived.keep(key, {"names": list(scored)}, np.stack([*scored.values()]))
            found[key] = scored
    return [_together(own, [found[job.key] for job in own]) for own in sets]


def are_on_record(snapshot: StudySnapshot, jobs: Sequence[MaskJob]) -> bool:
    """Whether the scores of all these jobs are on record."""
    return all(_find(snapshot, job) is not None for job in jobs)


def masks_on_record(
    snapshot: StudySnapshot, trial: StudyTrial, records: Sequence[FitRecord], masks: PostProcess
) -> ScoredMasks:
    """Scores of masks that were computed before; outside the folds those of the networks of `records`."""
    outside = {
        name: found
        for name, job in outside_jobs(snapshot, records, masks).items()
        if (found := _on_record(snapshot, [job])) is not None
    }
    return ScoredMasks(_on_record(snapshot, fold_jobs(trial)), outside)


def _on_record(snapshot: StudySnapshot, jobs: Sequence[MaskJob]) -> MaskValues | None:
    found = [kept for job in jobs if (kept := _find(snapshot, job)) is not None]
    return _together(jobs, found) if len(found) == len(jobs) else None


def _content(record: FitRecord) -> str:
    """Digest of a record; where an earlier version kept none, that of its weights, or "" without these."""
    return record.digest or (sha256_of(record.weights) if record.weights.exists() else "")


def _find(snapshot: StudySnapshot, job: MaskJob) -> Columns | None:
    kept = snapshot.derived.find(job.key)
    return None if kept is None else dict(zip(kept.plain["names"], kept.values, strict=True))


def _together(jobs: Iterable[MaskJob], columns: Iterable[Columns]) -> MaskValues:
    return MaskValues(tuple(job.case_ids for job in jobs), tuple(columns))
