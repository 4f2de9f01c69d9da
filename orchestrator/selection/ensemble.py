"""An ensemble of trials by greedy forward selection with replacement (Caruana et al., ICML 2004).

The first member is the chosen trial. The trial that raises the score most is added, repeatedly; one that is added twice
counts twice. In every fold the members' networks of that fold are averaged and scored on images that none of them was
trained on, each fold at the threshold of the others. So the ensemble has a cross-validated score, as a trial has, and
is complete where no trial raises it by more than MIN_GAIN. Only trials that keep the study's constraints and whose
weights are on disk can be members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.common.errors import BadStudy
from orchestrator.scoring.formatting import points
from orchestrator.search.goals.goals import SecondaryGoals
from orchestrator.search.goals.objective import Objective
from orchestrator.search.records.fit_records import FitRecord, scored_as
from orchestrator.search.records.trial_score import ScoredCases, TrialScore, score_trial
from orchestrator.search.score_job import ScoreJob
from orchestrator.search.significance import PairedTest, all_against, compared_trial, share_of_test
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial, broken
from orchestrator.selection.ranking import interval

MIN_GAIN = 0.001  # of the cross-fitted objective; less is not worth another network
MAX_MEMBERS = 5

# Scores what is asked for, unless it is on record.
ScoreJobs = Callable[[Sequence[ScoreJob]], None]
# Scores ensembles, each a tuple of trial numbers.
ScoreAll = Callable[[Sequence[tuple[int, ...]]], list[TrialScore]]


@dataclass(frozen=True)
class Ensemble:
    """Trials whose networks are averaged, and the gain over the chosen trial alone."""

    trials: tuple[StudyTrial, ...]  # the chosen one first; one that counts twice is named twice
    score: TrialScore  # cross-validated, of the mean of probabilities
    metric: str
    ranked_by: str  # the objective's label
    num_candidates: int
    left_out: tuple[str, ...]  # why others could not join
    versus: PairedTest | None  # against the chosen trial; None where nobody joined

    @property
    def shares(self) -> dict[int, int]:
        """Trial -> how often it counts."""
        return dict(Counter(trial.number for trial in self.trials))

    @property
    def records(self) -> list[FitRecord]:
        """The networks of all folds, those of a trial that counts twice named twice."""
        return [record for trial in self.trials for record in trial.records]

    def sentences(self) -> tuple[str, ...]:
        """Sentences on members and gain; then why other trials could not join, a line each."""
        return self._gain_sentence(), *self._members(), *self.left_out

    def as_dict(self) -> dict[str, Any]:
        return {
            "trials": [trial.number for trial in self.trials],
            "num_candidates": self.num_candidates,
            "against_chosen": None if self.versus is None else self.versus.as_dict(),
            "left_out": list(self.left_out),
        }

    def _gain_sentence(self) -> str:
        first, one = self.trials[0].number, self.versus
        over = f"Greedy selection over {self.num_candidates} trials"
        raised = f"cross-fitted {self.metric}" if self.ranked_by == self.metric else self.ranked_by
        if one is None:
            least = f"{100 * MIN_GAIN:g} points"
            return f"{over}: no further trial raises the {raised} of trial {first} by more than {least}."
        numbers = (
            f"{points(one.difference)} points of cross-fitted {self.metric} ({interval(one.interval)}, "
            f"p {one.p_value:.2g})"
        )
        verdict = (
            "is better than"
            if one.is_sure
            else "is worse than"
            if one.is_worse
            else "is not significantly different from"
        )
        return (
            f"{over} by {raised}: the mean of trials {_listed(self.shares)} {verdict} trial {first} alone: {numbers}, "
            "chosen on these same images."
        )

    def _members(self) -> list[str]:
        """Sentences on the configurations of further members; the first one's is on the card anyway."""
        others = {trial.number: trial for trial in self.trials[1:] if trial.number != self.trials[0].number}
        return [f"Trial {number}: {_configurations(trial)}." for number, trial in others.items()]


def select_ensemble(
    snapshot: StudySnapshot,
    standing: Sequence[tuple[StudyTrial, TrialScore]],
    chosen: int,
    metric: str,
    score_jobs: ScoreJobs,
) -> Ensemble:
    """Build an ensemble around a trial of a study; `standing`: finished trials, best first.

    Raises `BadStudy` if the networks of that trial are not there any more.
    """
    by_number = {trial.number: trial for trial, _ in standing}
    numbers, left_out = candidates(by_number, chosen, snapshot.secondary)
    score_all = _scorer(snapshot, {number: by_number[number] for number in numbers}, metric, score_jobs)
    objective = snapshot.objective
    members, score = grow(chosen, numbers, score_all, worth_by(objective, metric))
    ordered = sorted(members, key=lambda number: (number != chosen, numbers.index(number)))
    alone = next(score for trial, score in standing if trial.number == chosen)
    return Ensemble(
        trials=tuple(by_number[number] for number in ordered),
        score=score,
        metric=metric,
        ranked_by=objective.label(metric),
        num_candidates=len(numbers),
        left_out=left_out,
        versus=_versus(snapshot, chosen, score, alone, metric) if len(members) > 1 else None,
    )


def candidates(
    trials: dict[int, StudyTrial], chosen: int, secondary: SecondaryGoals
) -> tuple[list[int], tuple[str, ...]]:
    """The trials that can be averaged with the chosen one, that one first, and why others cannot."""
    if not trials[chosen].has_weights:
        raise BadStudy(
            f"trial {chosen}",
            "its fold networks, which an ensemble is made of, were pruned, as it was not among the best by dice",
        )
    size = trials[chosen].configuration.recipe.image_size
    found, fits, left_out = [chosen], {_fit_ids(trials[chosen])}, []
    for number, trial in trials.items():
        if not trial.has_weights or _fit_ids(trial) in fits:
            continue
        if words := broken(trial, secondary):
            left_out.append(f"Trial {number} has {words}: left out.")
            continue
        other = trial.configuration.recipe.image_size
        if other != size:
            left_out.append(
                f"Trial {number} sees images of {other} pixels, trial {chosen} of {size}: left out."
            )
            continue
        found.append(number)
        fits.add(_fit_ids(trial))
    return found, tuple(left_out)


def grow(
    first: int, numbers: Sequence[int], score_all: ScoreAll, worth: Callable[[TrialScore], float]
) -> tuple[tuple[int, ...], TrialScore]:
    """Let trials join, one at a time, as long as the score rises; return the members and their score."""
    members: tuple[int, ...] = (first,)
    (score,) = score_all([members])
    while len(members) < MAX_MEMBERS:
        tries = [(*members, number) for number in numbers if len({*members, number}) > 1]
        if not tries:
            break
        scored = score_all(tries)
        gains = [worth(one) - worth(score) for one in scored]
        raising = [place for place, gain in enumerate(gains) if gain > MIN_GAIN]  # NaN is no gain
        if not raising:
            break
        best = max(raising, key=gains.__getitem__)
        members, score = tries[best], scored[best]
    return members, score


def cost(records: Sequence[FitRecord]) -> str:
    """A sentence on how many networks are run for every image."""
    num_networks = len({record.fit_id for record in records})
    return f"{num_networks} networks are averaged: every image takes the work of {num_networks}."


def worth_by(objective: Objective, metric: str) -> Callable[[TrialScore], float]:
    """The objective of scores at cross-fitted thresholds, where there are any."""

    def worth(score: TrialScore) -> float:
        return objective(replace(score, metrics=score.cross_fitted or score.metrics), metric)

    return worth


def _scorer(
    snapshot: StudySnapshot, trials: dict[int, StudyTrial], metric: str, score_jobs: ScoreJobs
) -> ScoreAll:
    """Score ensembles fold by fold, all of them at once; masks are made as the first member's configuration says."""
    datasets, order = snapshot.plan.datasets, list(trials)

    def jobs_of(members: tuple[int, ...]) -> list[ScoreJob]:
        ordered = sorted(members, key=order.index)
        jobs = []
        for place, fold in enumerate(trials[order[0]].records):
            first, *others = [trials[number].records[place].fit_id for number in ordered]
            used = {name: datasets[name] for name in {id.split("/")[0] for id in fold.case_ids}}
            jobs.append(ScoreJob(first, f"fold {fold.spec.fold}", used, fold.case_ids, tuple(others)))
        return jobs

    def scored(job: ScoreJob) -> ScoredCases:
        return snapshot.ledger.read_scores(scored_as(job.fit_ids), job.case_ids)  # written since the snapshot

    def score_all(ensembles: Sequence[tuple[int, ...]]) -> list[TrialScore]:
        asked = {members: jobs_of(members) for members in ensembles if len(members) > 1}
        score_jobs([job for jobs in asked.values() for job in jobs])
        scores = []
        for members in ensembles:
            folds: Sequence[ScoredCases] = trials[members[0]].records
            if members in asked:
                folds = [scored(job) for job in asked[members]]
            scores.append(score_trial(folds, trials[members[0]].configuration, metric))
        return scores

    return score_all


def _versus(
    snapshot: StudySnapshot, chosen: int, score: TrialScore, alone: TrialScore, metric: str
) -> PairedTest:
    groups = snapshot.groups_of(score.case_ids)
    together, by_itself = (compared_trial(chosen, of, metric) for of in (score, alone))
    (found,) = all_against(together, [by_itself], groups, share_of_test(snapshot.plan))
    return found


def _fit_ids(trial: StudyTrial) -> tuple[str, ...]:
    return tuple(record.fit_id for record in trial.records)


def _listed(shares: dict[int, int]) -> str:
    return ", ".join(
        f"{number}" if times == 1 else f"{number} ({times} times)" for number, times in shares.items()
    )


def _configurations(trial: StudyTrial) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial.searched.items()
    )
