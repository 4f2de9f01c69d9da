"""Choice of a trial by a metric of masks, such as nsd, which no histogram of probabilities gives.

The networks of the best trials are kept; these predict the validation images of their folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.common.errors import BadStudy
from orchestrator.scoring.formatting import finite, percent, points
from orchestrator.search.significance import ComparedTrial, PairedTest, all_against, share_of_test
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial
from orchestrator.selection.mask_values import MaskValues, ScoreMasks, fold_jobs, mask_values
from orchestrator.selection.ranking import interval

SHOWN = 5  # trials that a sentence names with their values


@dataclass(frozen=True)
class MaskScore:
    """A trial's mean over all validation images, each counted once, and its 95 % interval over groups."""

    trial: int
    mean: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class MaskRanking:
    """Trials ranked by a metric of masks, with the test of the first one against the second."""

    metric: str
    ranked_by: str  # the objective's label, by which networks were kept
    scores: tuple[MaskScore, ...]  # best first
    deleted: tuple[int, ...]  # other finished trials that keep the constraints: their networks are gone
    lead: PairedTest  # the first less the second, corrected for all that are compared

    @property
    def chosen(self) -> int:
        """Number of the first trial."""
        return self.scores[0].trial

    def sentences(self) -> tuple[str, str]:
        """Sentences: the trial of highest value among those compared; whether its lead is significant."""
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
        """The ranking as plain values."""
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
    """Ranking by a metric of masks of finished trials that keep the constraints and whose networks are kept.

    `score_masks` computes scores that are not on record. `BadStudy` if there are fewer than two such trials.
    """
    finished = [trial for trial, _ in snapshot.feasible()]
    kept = [trial for trial in finished if trial.has_weights]
    deleted = tuple(trial.number for trial in finished if not trial.has_weights)
    ranked_by = snapshot.objective.label("dice")
    if len(kept) < 2:
        found = f"only trial {kept[0].number} has" if kept else "none has"
        raise BadStudy(
            snapshot.name,
            f"--metric {metric} compares finished trials whose fold networks are all kept, which are the best by "
            f"{ranked_by}: it needs two, but of {len(finished)} {found} them",
        )
    values = mask_values(snapshot, [fold_jobs(trial) for trial in kept], score_masks)
    compared = [_compared(trial, own, metric) for trial, own in zip(kept, values, strict=True)]
    case_ids = values[0].case_ids
    # Of equals the better by the objective is first, as in `kept`.
    first, *others = sorted(compared, key=lambda one: -float(one.values.mean()))
    tests = all_against(first, others, snapshot.groups_of(case_ids), share_of_test(snapshot.plan))
    scores = [
        MaskScore(one.number, float(one.values.mean()), snapshot.interval(one.values, case_ids))
        for one in (first, *others)
    ]
    return MaskRanking(metric, ranked_by, tuple(scores), deleted, tests[0])


def _compared(trial: StudyTrial, scored: MaskValues, metric: str) -> ComparedTrial:
    """A trial with the mean of each image over the folds that validated it, and the mean of each fold."""
    of_folds = tuple(float(fold[metric].mean()) for fold in scored.by_fold)
    return ComparedTrial(trial.number, scored.by_case(metric), of_folds)
