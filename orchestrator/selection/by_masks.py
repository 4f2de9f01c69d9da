"""Choice of a trial by a metric of masks, such as nsd, which no histogram of probabilities gives.

The networks of the best trials are kept. Every validation image is predicted by the network of the fold that did not
see it, its mask is made as the other folds choose (so is every cross-fitted score), and scored at the size of its file.
Scores are kept among what is derived of a study, fit by fit: a command that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.common.errors import BadStudy
from orchestrator.common.stored_json import sha256_of
from orchestrator.scoring.formatting import finite, percent, points
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.trial_score import by_case, masks_of_folds
from orchestrator.search.significance import ComparedTrial, PairedTest, all_against, share_of_test
from orchestrator.search.store.derived import key_of
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial
from orchestrator.selection.ranking import interval

SHOWN = 5  # trials that a sentence names with their values


@dataclass(frozen=True)
class MaskJob:
    """A fold network, and how its maps become masks; what is asked for are scores of its validation images."""

    record: FitRecord
    masks: PostProcess


# Metric -> (N,) in the order of `case_ids` of its record, for every job in turn.
ScoreMasks = Callable[[Sequence[MaskJob]], Iterator[Mapping[str, NDArray[np.float64]]]]


@dataclass(frozen=True)
class MaskScore:
    """A trial's mean over all validation images, each counted once, and its 95 % interval over groups."""

    trial: int
    mean: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class MaskRanking:
    """Trials by a metric of masks, and how sure the lead of the first one is."""

    metric: str
    ranked_by: str  # the objective's label, by which networks were kept
    scores: tuple[MaskScore, ...]  # best first
    deleted: tuple[int, ...]  # other finished trials that keep the constraints: their networks are gone
    lead: PairedTest  # the first less the second, corrected for all that are compared

    @property
    def chosen(self) -> int:
        """The number of the first one."""
        return self.scores[0].trial

    def sentences(self) -> tuple[str, str]:
        """Which trial has the highest value among which, and whether its lead is significant."""
        first, *others = self.scores
        named = [f"trial {one.trial}: {percent(one.mean)}" for one in others[:SHOWN]]
        if rest := len(others) - len(named):
            named.append(f"{rest} more below")
        what = f"Trial {first.trial} has the highest {self.metric}, {percent(first.mean)}, of the {len(self.scores)} "
        what += f"trials whose networks are kept ({', '.join(named)})"
        if num := len(self.deleted):
            gone = f"those of {num} others were deleted, as they were" if num > 1 else ""
            gone = gone or f"those of trial {self.deleted[0]} were deleted, as it was"
            what += f"; {gone} not among the best by {self.ranked_by}"
        one = self.lead
        numbers = f"{points(one.difference)} points ({interval(one.interval)}; p {one.p_value:.2g})"
        is_sure = "is" if one.is_sure else "is not"
        return f"{what}.", f"Its lead over trial {one.other}, {numbers}, {is_sure} significant."

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "metric": self.metric,
            "trials": [
                {"trial": one.trial, self.metric: one.mean, "interval": finite(one.interval)}
                for one in self.scores
            ],
            "networks_deleted": list(self.deleted),
            "against_second": self.lead.as_dict(),
        }


def rank_by_masks(snapshot: StudySnapshot, metric: str, score_masks: ScoreMasks) -> MaskRanking:
    """The finished trials that keep the constraints and whose networks are kept, by a metric of masks.

    `score_masks` scores what is not on record. Raises `BadStudy` where there are fewer than two such trials.
    """
    finished = [trial for trial, _ in snapshot.feasible()]
    kept = [trial for trial in finished if trial.has_weights]
    deleted = tuple(trial.number for trial in finished if not trial.has_weights)
    ranked_by = snapshot.objective.label("dice")
    if len(kept) < 2:
        found = f"only trial {kept[0].number} has" if kept else "none has"
        raise BadStudy(
            snapshot.name,
            f"--metric {metric} compares finished trials whose fold networks all are kept, those of the best by "
            f"{ranked_by}: it needs two, and of {len(finished)} {found} them",
        )
    jobs = {trial.number: {_key(job): job for job in _jobs(trial)} for trial in kept}
    values = _values(snapshot, {key: job for own in jobs.values() for key, job in own.items()}, score_masks)
    compared = [_compared(trial, [values[key][metric] for key in jobs[trial.number]]) for trial in kept]
    case_ids = sorted({case_id for record in kept[0].records for case_id in record.case_ids})
    # Of equals the better by the objective is first, as in `kept`.
    first, *others = sorted(compared, key=lambda one: -float(one.values.mean()))
    tests = all_against(first, others, snapshot.groups_of(case_ids), share_of_test(snapshot.plan))
    scores = [
        MaskScore(one.number, float(one.values.mean()), snapshot.interval(one.values, case_ids))
        for one in (first, *others)
    ]
    return MaskRanking(metric, ranked_by, tuple(scores), deleted, tests[0])


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


def _compared(trial: StudyTrial, by_fold: Sequence[NDArray[np.float64]]) -> ComparedTrial:
    """A trial by the mean of each image over the folds that validated it, and by the mean of each fold."""
    case_ids = [case_id for record in trial.records for case_id in record.case_ids]
    place = np.unique(case_ids, return_inverse=True)[1]
    means = by_case({"": np.concatenate(by_fold)}, place)[""]
    return ComparedTrial(trial.number, means, tuple(float(fold.mean()) for fold in by_fold))
