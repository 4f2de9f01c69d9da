"""The trials of a study from its records, ranked by their scores, and the network that represents a trial."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.trial import FixedTrial, FrozenTrial, TrialState

from orchestrator.common.errors import BadStudy
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.goals.goals import SecondaryGoals
from orchestrator.search.goals.objective import Objective
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.partial_score import NOTHING_SEEN, PartialScore, SeenFolds, partial
from orchestrator.search.records.trial_score import TrialScore, fold_specs, score_trial
from orchestrator.search.space.space import Configuration, SearchSpace

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


@dataclass(frozen=True)
class StudyTrial:
    """One trial: its configuration, the records of its finished folds, and its score if all are."""

    number: int
    state: str  # "complete", "stopped" by the race, "failed", or "open": not over
    searched: dict[str, Any]
    params: dict[str, Any]  # searched and fixed
    configuration: Configuration
    records: tuple[
        FitRecord, ...
    ]  # of the finished folds, in order; of a stopped one those that it was stopped by
    num_folds: int
    error: str | None  # why it failed, or was stopped
    look: SeenFolds = NOTHING_SEEN  # what the race has seen of it

    @property
    def inference_ms(self) -> list[float | None]:
        """Milliseconds per image of each finished fold; None where they were not measured."""
        return [record.inference_ms for record in self.records]

    @property
    def has_weights(self) -> bool:
        """Whether the networks of all its finished folds are kept."""
        return all(record.weights.exists() for record in self.records)

    @property
    def partial(self) -> PartialScore | None:
        """Score over the finished folds; None if all are finished."""
        if len(self.records) == self.num_folds:
            return None
        return self.partial_of(score_trial(self.records, self.configuration) if self.records else None)

    def partial_of(self, shown: TrialScore | None) -> PartialScore:
        """The partial score over the folds on record; `shown`: their score, None without folds."""
        is_seen = len(self.look.folds) == len(self.records)
        look = self.look if is_seen else SeenFolds(tuple(range(len(self.records))))
        return partial(shown.metrics["dice"] if shown is not None else None, self.num_folds, look)

    def score(self, metric: str = "dice") -> TrialScore | None:
        """The trial's score, or None while folds are missing."""
        return (
            score_trial(self.records, self.configuration, metric)
            if len(self.records) == self.num_folds
            else None
        )


@dataclass(frozen=True)
class Champion:
    """The best trial, and the fit whose network represents it."""

    trial: int
    fit_id: str


def outside_cases(plan: SplitPlan, unseen: Sequence[Dataset]) -> dict[str, tuple[str, ...]]:
    """The cases that only champions are scored on: "test", the hold-out, and each unseen dataset by name.

    Unseen cases that the plan drops, since they have near-duplicates in training, are not among them.
    """
    test = {"test": plan.test} if plan.test else {}
    left_out = plan.left_out
    return test | {
        dataset.name: tuple(case.id for case in dataset.cases if case.id not in left_out)
        for dataset in unseen
    }


def fingerprints_of(plan: SplitPlan, case_ids: Iterable[str]) -> dict[str, str]:
    """Name -> fingerprint of the datasets of these cases."""
    known = plan.datasets | plan.unseen
    return {name: known[name] for name in {case_id.split("/")[0] for case_id in case_ids}}


class FitsOnRecord(Protocol):
    """Source of the records of finished fits: a ledger, or a snapshot of one."""

    def find(self, fit_id: str) -> FitRecord | None:
        """The record of a fit; None where there is none, or it cannot be read."""


def read_trial(
    trial: FrozenTrial,
    space: SearchSpace,
    plan: SplitPlan,
    ledger: FitsOnRecord,
    look: SeenFolds | None = None,
) -> StudyTrial:
    """A trial from its record in Optuna, the records of its fits, and the folds that the race has judged.

    A fold of a stopped trial that was cut may have been recorded a moment later: it is not one of its folds.
    """
    params = space.sample(FixedTrial(trial.params))
    configuration = space.configuration(params)
    fit_ids = [spec.fit_id for spec in fold_specs(configuration, plan)]
    state = STATES.get(trial.state, "open")
    folds = look.folds if look is not None and state == "stopped" else range(len(fit_ids))
    found = (ledger.find(fit_ids[fold]) for fold in folds)
    return StudyTrial(
        number=trial.number,
        state=state,
        searched=space.shown(trial.params),
        params=params,
        configuration=configuration,
        records=tuple(record for record in found if record is not None),
        num_folds=len(fit_ids),
        error=trial.user_attrs.get("error") or trial.user_attrs.get("stopped"),
        look=look or NOTHING_SEEN,
    )


def ranked(
    trials: Sequence[StudyTrial],
    metric: str = "dice",
    objective: Objective | None = None,
    secondary: SecondaryGoals | None = None,
    score_of: Callable[[StudyTrial, str], TrialScore | None] = StudyTrial.score,
) -> list[tuple[StudyTrial, TrialScore]]:
    """Finished trials with their scores, best first, of equals the earlier; those over a limit come last."""
    worth, limits = objective or Objective(), secondary or SecondaryGoals()
    scored = [(trial, score) for trial in trials if (score := score_of(trial, metric)) is not None]
    return sorted(
        scored,
        key=lambda pair: (
            broken(pair[0], limits) is not None,
            -worth(pair[1], metric),
            pair[0].number,
        ),
    )


def broken(trial: StudyTrial, secondary: SecondaryGoals) -> str | None:
    """Text that names the constraints that a trial does not meet; None if none is known to be exceeded."""
    return secondary.broken(trial.configuration, trial.inference_ms)


def finished_score(trial: StudyTrial) -> TrialScore:
    """The score of a trial that must be finished. Raises `BadStudy` if it is not."""
    score = trial.score()
    if score is None:
        raise BadStudy(
            f"trial {trial.number}", f"has {len(trial.records)} of {trial.num_folds} folds finished"
        )
    return score


def champion_fit(trial: StudyTrial) -> FitRecord:
    """The fold network that represents a trial. Raises `BadStudy` if the trial is not finished."""
    return fit_of_median_dice(trial, finished_score(trial))


def fit_of_median_dice(trial: StudyTrial, score: TrialScore) -> FitRecord:
    """The fold network of median Dice, which the trial's score describes.

    Of an even number of folds it is the lower of the two in the middle, so as not to exceed the trial.
    """
    dice = score.fold_dice
    return trial.records[sorted(range(len(dice)), key=dice.__getitem__)[(len(dice) - 1) // 2]]
