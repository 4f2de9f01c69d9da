"""Which trial is exported, and how sure that is: which trials are not significantly different, which cheaper.

Trials are compared on the same validation images, at cross-fitted thresholds (see search/significance.py). Where
the finalists were re-evaluated, the winner is the best of search and re-evaluation together. Hold-out cases and unseen
datasets are not considered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from optuna.trial import TrialState

from orchestrator.common.stored_json import as_kind
from orchestrator.scoring.formatting import percent, points
from orchestrator.search.choices import BestRule
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.significance import (
    ComparedTrial,
    PairedTest,
    all_against,
    compared_trial,
    gain_over,
    share_of_test,
)
from orchestrator.search.store.derived import key_of
from orchestrator.search.store.derived_scores import digest_of
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial, broken
from orchestrator.selection.reevaluation import NEW_FOLDS, Reevaluated, StoredReevaluation

BASELINE = 0  # the number of its trial
NOT_WHOLE = (TrialState.PRUNED, TrialState.RUNNING)  # tried, without all folds
BELOW_EITHER = (
    " Search and re-evaluation each have the threshold that is best for their fits, but both together have a single "
    "one: the score over both may be below either."
)
SAME_COST = 0.1  # seconds of training that differ by less, as a share, are the same


@dataclass(frozen=True)
class RankedTrial(ComparedTrial):
    """A trial with all its folds, with its training time and number of parameters."""

    seconds: float  # of training, over all folds and workers, on a machine that does nothing else
    num_parameters: int  # of its network; 0 where the rule does not go by it
    may_win: bool = True  # whether it keeps the study's limits


@dataclass(frozen=True)
class Selection:
    """The exported trial, and the reasons for it."""

    metric: str
    rule: BestRule
    winner: int  # of the highest score, over search and re-evaluation where there was one
    chosen: int
    reason: str  # one line
    alike: tuple[
        PairedTest, ...
    ]  # the winner against trials that are not significantly different, in order of their rank
    better: tuple[PairedTest, ...]  # against those that are better by this metric: another one was ranked by
    num_compared: int  # trials with all folds, the winner left out
    baseline: PairedTest | None  # the winner against it; None where it is that, or that is missing
    reevaluated: tuple[Reevaluated, ...] = ()  # finalists, the winner first
    reevaluated_on: str = NEW_FOLDS  # the folds and seeds of that, in words
    failed_reevaluations: Mapping[int, str] = field(
        default_factory=dict
    )  # finalists left out for it, with the reason

    # Number of the winner, and of the baseline -> its mean, as the two are compared: cross-fitted where folds are.
    means: Mapping[int, float] = field(default_factory=dict)

    # Values of the winner at an end of the range that was searched, in words.
    range_ends: tuple[str, ...] = ()

    @property
    def alike_trials(self) -> tuple[int, ...]:
        return tuple(one.other for one in self.alike)

    def sentences(self) -> tuple[str, ...]:
        """Sentences on the choice, trials not significantly different and the gain of tuning, a line each."""
        return (
            self.reason,
            *self.reevaluation_sentences(),
            self._alike_sentence(),
            self._baseline_sentence(),
            *self._range_sentences(),
        )

    def reevaluation_sentences(self) -> tuple[str, ...]:
        """Sentences on the re-evaluation of the finalists; () where there was none."""
        if not self.reevaluated:
            return ()
        first = self.reevaluated[0]
        on_new_folds = self.reevaluated_on == NEW_FOLDS
        where = "On folds and seeds that the search did not optimise over" if on_new_folds else "There"
        number = len(self.reevaluated) + len(self.failed_reevaluations)
        return (
            f"{number} trials that are not significantly different were re-evaluated, {self.reevaluated_on}: "
            + "; ".join(
                f"trial {one.trial}: {percent(one.both)} over both (search {percent(one.search)}, "
                f"re-evaluation {percent(one.fresh)})"
                for one in self.reevaluated
            )
            + "."
            + BELOW_EITHER * any(one.both < min(one.search, one.fresh) for one in self.reevaluated),
            f"{where}, trial {first.trial} has {percent(first.fresh)}: its own score in the search was "
            f"{_optimism(first.optimism)}.",
            *(
                f"Trial {trial} is left out, because it failed when it was trained again: "
                f"{next(iter(error.splitlines()), 'unknown')}."
                for trial, error in self.failed_reevaluations.items()
            ),
        )

    def as_dict(self) -> dict[str, Any]:
        """The selection as plain values."""
        return {
            "rule": self.rule,
            "winner": self.winner,
            "chosen": self.chosen,
            "reason": self.reason,
            "num_compared": self.num_compared,
            "not_significantly_different": [one.as_dict() for one in self.alike],
            "better_than_winner": [one.as_dict() for one in self.better],
            "against_baseline": None if self.baseline is None else self.baseline.as_dict(),
            "reevaluated": [one.as_dict() for one in self.reevaluated],
            "failed_reevaluations": dict(self.failed_reevaluations),
            "at_range_ends": list(self.range_ends),
        }

    def tags(self) -> dict[str, str]:
        """MLflow tags of the run, or the registered model, of the exported trial."""
        finalists = ", ".join(str(one.trial) for one in self.reevaluated) or "not re-evaluated"
        tags = {"chosen_for": self.reason, "finalists": finalists}
        if self.chosen != self.winner:  # the rest is said of the winner
            return tags
        gain = "is the baseline" if self.winner == BASELINE else "unknown"
        if self.baseline is not None:
            gain = "yes" if self.baseline.is_sure else "no" if self.baseline.is_worse else "not significantly"
        alike = ", ".join(map(str, self.alike_trials)) or "none"
        return tags | {"not_significantly_different": alike, "beats_baseline": gain}

    def metrics(self) -> dict[str, float]:
        """Numbers for the run of the champion, those that are finite."""
        found = {"num_not_significantly_different": float(len(self.alike))}
        if self.baseline is not None:
            found |= {
                "gain_over_baseline": self.baseline.difference,
                "gain_over_baseline_low": self.baseline.interval[0],
                "gain_over_baseline_high": self.baseline.interval[1],
                "gain_over_baseline_p": self.baseline.p_value,
            }
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _alike_sentence(self) -> str:
        if not self.num_compared:
            return "No other trial has all its folds, so there is nothing to compare it with."
        verdicts = {"are not significantly different from": self.alike, "are better than": self.better}
        found = [
            f"these {verdict} trial {self.winner} by {self.metric}: {', '.join(str(one.other) for one in some)}"
            for verdict, some in verdicts.items()
            if some
        ]
        if not found:
            return f"All {self.num_compared} others are worse than trial {self.winner} by {self.metric}."
        return f"Of {self.num_compared} others, {'; '.join(found)}."

    def _baseline_sentence(self) -> str:
        if self.winner == BASELINE:
            return "The highest score is that of the baseline, trial 0."
        if self.baseline is None:
            return "The baseline, trial 0, has not finished all its folds, so the gain over it is unknown."
        one = self.baseline
        both = [self.means[number] for number in (self.winner, BASELINE) if number in self.means]
        fitted = "" if one.p_folds is None else " cross-fitted"
        less = f"{' less '.join(map(percent, both))}{fitted}; " if len(both) == 2 else ""
        numbers = f"{points(one.difference)} points of {self.metric} ({less}{interval(one.interval)}; "
        numbers += f"p {one.p_value:.2g}, corrected for all trials that were tried)"
        if one.is_sure:
            return f"Trial {self.winner} is better than the baseline, trial 0, by {numbers}."
        if one.is_worse:
            return f"Trial {self.winner} is worse than the baseline, trial 0: {numbers}."
        return f"Trial {self.winner} is not significantly different from the baseline, trial 0: {numbers}."

    def _range_sentences(self) -> tuple[str, ...]:
        if not self.range_ends:
            return ()
        wider = "a wider range may hold a better configuration"
        return (f"Of trial {self.winner}, {'; '.join(self.range_ends)}: {wider}.",)


def select(
    ranked: Sequence[RankedTrial],
    groups: Sequence[str],
    test_share: float | None,
    *,
    metric: str = "dice",
    ranked_by: str | None = None,
    rule: BestRule = "best",
    reevaluated: Sequence[Reevaluated] = (),
    failed_reevaluations: Mapping[int, str] | None = None,
    num_stopped: int = 0,
) -> Selection:
    """Choose among trials with all folds, best first.

    groups (N,) of the images; test_share: cases validated over cases trained on, None of one fold. Trials are compared
    by their means of `metric` over images, whatever they are `ranked_by`. `reevaluated`: the finalists, the
    winner first; `failed_reevaluations`: those that could not be, which no rule takes. `num_stopped`: trials without
    all their folds.
    """
    failed = failed_reevaluations or {}
    highest = f"the highest {ranked_by or metric} of {len(ranked)} finished"
    if reevaluated:
        highest = (
            f"the highest {ranked_by or metric} over search and re-evaluation of {len(reevaluated)} finalists"
        )
    best = reevaluated[0].trial if reevaluated else ranked[0].number
    winner = next(one for one in ranked if one.number == best)
    others = [one for one in ranked if one is not winner]
    against = all_against(winner, others, groups, test_share)
    chosen, reason = winner, f"Trial {winner.number} has {highest}."
    if rule == "one-se":
        may_win = [one for one in others if one.may_win and one.number not in failed]
        chosen, reason = _cheapest(winner, may_win, against, reevaluated, metric, highest)
    return Selection(
        metric=metric,
        rule=rule,
        winner=winner.number,
        chosen=chosen.number,
        reason=reason,
        alike=tuple(one for one in against if not one.is_sure and not one.is_worse),
        better=tuple(one for one in against if one.is_worse),
        num_compared=len(others),
        baseline=_gain(winner, others, groups, test_share, num_stopped),
        reevaluated=tuple(reevaluated),
        failed_reevaluations=failed,
    )


def select_trial(
    snapshot: StudySnapshot,
    standing: Sequence[tuple[StudyTrial, TrialScore]],
    metric: str = "dice",
    rule: BestRule = "best",
    trial_number: int | None = None,
) -> Selection:
    """Choose among the trials of a study, which are `ranked` by the metric, and which are not none.

    `trial_number`: take that one, whichever the rule would choose. Found on disk where it was chosen before.
    """
    second = StoredReevaluation(snapshot)
    reevaluated = second.of(standing, metric)
    failed = second.failed(standing) if reevaluated else {}
    num_parameters = snapshot.network_sizes.num_parameters
    ranked = [
        replace(
            _ranked(trial, score, metric),
            num_parameters=num_parameters(trial.configuration) if rule == "one-se" else 0,
            may_win=broken(trial, snapshot.secondary) is None,
        )
        for trial, score in standing
    ]
    groups, share = snapshot.groups_of(standing[0][1].case_ids), share_of_test(snapshot.plan)
    ranked_by = snapshot.objective.label(metric)
    num_stopped = sum(trial.state in NOT_WHOLE for trial in snapshot.stored_trials)
    plain = [replace(one, values=digest_of(one.values)).__dict__ for one in ranked]  # type: ignore[arg-type]
    rest = groups, share, metric, ranked_by, rule, [asdict(one) for one in reevaluated], failed, num_stopped
    key = key_of("selected trial", plain, *rest)
    if (kept := snapshot.derived.find(key)) is not None:
        found: Selection = as_kind(kept.plain, Selection)
    else:
        found = select(
            ranked,
            groups,
            share,
            metric=metric,
            ranked_by=ranked_by,
            rule=rule,
            reevaluated=reevaluated,
            failed_reevaluations=failed,
            num_stopped=num_stopped,
        )
        snapshot.derived.keep(key, asdict(found))
    winner = next(trial for trial, _ in standing if trial.number == found.winner)
    both = [one for one in ranked if one.number in (found.winner, BASELINE)]
    means = {one.number: float(one.values.mean()) for one in both}
    found = replace(found, range_ends=snapshot.space.at_range_ends(winner.params), means=means)
    found = replace(found, reevaluated_on=second.where()) if reevaluated else found
    if trial_number is None:
        return found
    return replace(found, chosen=trial_number, reason=f"Trial {trial_number} was asked for. {found.reason}")


def _optimism(difference: float) -> str:
    return f"{100 * abs(difference):.2f} points {'higher' if difference >= 0 else 'lower'}"


def interval(ends: tuple[float, float]) -> str:
    """95 % interval of a difference as text, in points."""
    return f"95 % {points(ends[0])} to {points(ends[1])}" if math.isfinite(ends[0]) else "95 % unknown"


def _ranked(trial: StudyTrial, score: TrialScore, metric: str) -> RankedTrial:
    shown = compared_trial(trial.number, score, metric)
    return RankedTrial(
        number=shown.number,
        values=shown.values,
        fold_means=shown.fold_means,
        seconds=training_seconds(trial.records),
        num_parameters=0,
    )


def training_seconds(records: Sequence[FitRecord]) -> float:
    """Seconds of training: all epochs, on all workers, at the pace of the fastest; other load is left out."""
    epochs = [row["seconds"] * record.world_size for record in records for row in record.curves]
    return len(epochs) * min(epochs)


def _gain(
    winner: RankedTrial,
    others: Sequence[RankedTrial],
    groups: Sequence[str],
    test_share: float | None,
    num_stopped: int,
) -> PairedTest | None:
    """Paired test of the winner against the baseline; None if the winner is the baseline, or it is absent."""
    baseline = next((one for one in others if one.number == BASELINE), None)
    if baseline is None:
        return None
    rest = [one for one in others if one is not baseline]
    return gain_over(baseline, winner, rest, groups, test_share, num_stopped)


def _cheapest(
    winner: RankedTrial,
    others: Sequence[RankedTrial],
    against: Sequence[PairedTest],
    reevaluated: Sequence[Reevaluated],
    metric: str,
    highest: str,
) -> tuple[RankedTrial, str]:
    """The trial of least training, then of fewest parameters, within one standard error of the winner.

    Of a finalist, the lead over search and re-evaluation together must be within it, too.
    """
    lead = {one.trial: reevaluated[0].both - one.both for one in reevaluated}
    allowed = {other.number for other in others}
    near = {
        one.other: one
        for one in against
        if one.other in allowed
        and max(one.difference, lead.get(one.other, -math.inf)) <= one.standard_error < math.inf
    }
    within = [winner, *(other for other in others if other.number in near)]
    limit = (1 + SAME_COST) * min(one.seconds for one in within)
    chosen = min((one for one in within if one.seconds <= limit), key=lambda one: one.num_parameters)
    if chosen is winner:
        return winner, (
            f"Trial {winner.number} has {highest}; "
            f"of {len(near)} others within one standard error none is cheaper."
        )
    one = near[chosen.number]
    return chosen, (
        f"Trial {chosen.number} is the cheapest of {len(within)} within one standard error of the best, "
        f"trial {winner.number}: {points(-one.difference)} points of {metric} "
        f"(standard error {100 * one.standard_error:.2f}), {_cost(chosen)} instead of {_cost(winner)}."
    )


def _cost(one: RankedTrial) -> str:
    return f"{one.seconds / 60:.1f} min of training and {one.num_parameters:,} parameters"
