"""Scores of the masks of a trial's validation images, which histograms do not give: nsd, polyps as objects.

Every validation image is predicted by the network of the fold that did not see it, and its mask is made as the other
folds choose, as is that of every cross-fitted score; it is scored at the size of its file. Scores are kept among what
is derived of a study, fit by fit: a command that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.common.stored_json import sha256_of
from orchestrator.scoring.components import PolypCounts
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.trial_score import by_case, masks_of_folds
from orchestrator.search.store.derived import key_of
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial


@dataclass(frozen=True)
class MaskJob:
    """A fold network, and how its maps become masks; what is asked for are scores of its validation images."""

    record: FitRecord
    masks: PostProcess


# Metric -> (N,) in the order of `case_ids` of its record, for every job in turn.
ScoreMasks = Callable[[Sequence[MaskJob]], Iterator[Mapping[str, NDArray[np.float64]]]]


@dataclass(frozen=True)
class MaskValues:
    """The scores of the masks of one trial, fold by fold."""

    records: tuple[FitRecord, ...]
    by_fold: tuple[Mapping[str, NDArray[np.float64]], ...]  # name -> (N,), in the order of the fold's cases

    @property
    def case_ids(self) -> tuple[str, ...]:
        """All validation images, each once, in the order of `by_case`."""
        return tuple(sorted({case_id for record in self.records for case_id in record.case_ids}))

    def by_case(self, metric: str) -> NDArray[np.float64]:
        """(N,) of `case_ids`: the mean of each image over the folds that validated it."""
        case_ids = [case_id for record in self.records for case_id in record.case_ids]
        place = np.unique(case_ids, return_inverse=True)[1]
        return by_case({"": np.concatenate([fold[metric] for fold in self.by_fold])}, place)[""]

    @property
    def polyps(self) -> PolypCounts:
        """Polyps as objects in all predictions: with repeated folds an image counts once for each repeat."""
        return PolypCounts.total(PolypCounts.of_columns(fold) for fold in self.by_fold)


def mask_values(
    snapshot: StudySnapshot, trials: Sequence[StudyTrial], score_masks: ScoreMasks
) -> list[MaskValues]:
    """The scores of trials whose networks are kept, for each in turn; `score_masks` scores what is not on record."""
    jobs = [{_key(job): job for job in _jobs(trial)} for trial in trials]
    found = _values(snapshot, {key: job for own in jobs for key, job in own.items()}, score_masks)
    return [
        MaskValues(tuple(trial.records), tuple(found[key] for key in own))
        for trial, own in zip(trials, jobs, strict=True)
    ]


def _jobs(trial: StudyTrial) -> list[MaskJob]:
    masks = masks_of_folds(trial.records, trial.configuration)
    return [MaskJob(record, own) for record, own in zip(trial.records, masks, strict=True)]


def _values(
    snapshot: StudySnapshot, jobs: Mapping[str, MaskJob], score_masks: ScoreMasks
) -> dict[str, Mapping[str, NDArray[np.float64]]]:
    """What every job, by its key, has asked for; from disk where it was computed before."""
    found: dict[str, Mapping[str, NDArray[np.float64]]] = {}
    for key in jobs:
        if (kept := snapshot.derived.find(key)) is not None:
            found[key] = dict(zip(kept.plain["names"], kept.values, strict=True))
    missing = {key: job for key, job in jobs.items() if key not in found}
    if missing:
        for key, scored in zip(missing, score_masks([*missing.values()]), strict=True):
            snapshot.derived.keep(key, {"names": list(scored)}, np.stack([*scored.values()]))
            found[key] = scored
    return found


def _key(job: MaskJob) -> str:
    """The name of its scores: the network's record, its weights and cases among it, and the masks."""
    record = job.record
    content = record.digest or sha256_of(record.weights)  # records of earlier versions have no digest
    return key_of("scores of masks", record.fit_id, content, list(record.case_ids), job.masks.as_dict())
