"""Scores, estimates and verdicts of all trials of a study, for the engine, samplers and status displays.

Everything is read from the ledger, the journal of Optuna and the verdicts in `race.jsonl`, so that a study that was
killed resumes exactly. Replayed in the order of that file, the records of the ledger give the same verdicts again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.search.choices import RuleName
from orchestrator.search.goals.goals import SecondaryGoals, front
from orchestrator.search.goals.objective import Objective
from orchestrator.search.race.early_stopping import Curve, Finished, expected_difference
from orchestrator.search.race.predictions import Predictions
from orchestrator.search.race.rules import Race, Verdict
from orchestrator.search.race.verdicts import Verdicts
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.records.partial_score import NOTHING_SEEN, PartialScore, SeenFolds, partial
from orchestrator.search.records.trial_score import TrialScore, fold_specs, score_trial
from orchestrator.search.samplers.past_trials import PastTrial
from orchestrator.search.space.space import Configuration, SearchSpace
from orchestrator.training.recipe import FitSpec

ScoreOf = Callable[[Sequence[FitRecord], Configuration], TrialScore]  # of the finished folds of a trial
LATE = 4  # trials, the most recently stopped ones, of which a fit in flight may still be recorded


class RaceState:
    """Scores, estimates and verdicts of the trials that were entered, and the race between them."""

    def __init__(
        self,
        ledger: Ledger,
        space: SearchSpace,
        plan: SplitPlan,
        group_of_case: Mapping[str, str],
        rule: RuleName,
        log: Path,
        objective: Objective | None = None,
        secondary: SecondaryGoals | None = None,
        score_of: ScoreOf = score_trial,
    ) -> None:
        """log: `race.jsonl`, read at once and appended to. score_of: scores a trial, or finds its score."""
        self.score_of = score_of
        self.ledger, self.space, self.plan, self.group_of_case = ledger, space, plan, group_of_case
        self.race = Race(rule, [[group_of_case[case_id] for case_id in fold.val] for fold in plan.folds])
        self.objective, self.secondary = objective or Objective(), secondary or SecondaryGoals()
        self.inference_ms: dict[int, list[float | None]] = {}  # of every trial, by its finished folds
        self.seconds: dict[int, float] = {}  # of a fit of every trial, over its finished folds
        self.drawn: dict[int, FrozenTrial] = {}  # with the searched parameters
        self.configurations: dict[int, Configuration] = {}
        self.fit_ids: dict[int, list[str]] = {}  # of every trial, fold by fold
        self.seen: dict[int, tuple[int, ...]] = {}  # finished folds of every trial that are scored
        self.scores: dict[int, TrialScore] = {}  # over these folds
        self.predictions = Predictions(self.race)
        self.shares: dict[
            str, list[int]
        ] = {}  # fit -> its trials: those that differ in masks alone share fits
        self.late: deque[int] = deque(maxlen=LATE)  # trials that were stopped with fits in flight
        self._past: dict[int, PastTrial] = {}
        self.log = Verdicts(log)
        self.verdicts, self.judged, self.looks = self.log.latest, self.log.folds, self.log.seen
        self._shown: dict[int, tuple[tuple[int, ...], TrialScore]] = {}  # of stopped trials
        self.failed: set[int] = set()
        self.on_record: set[str] = set()  # fits
        self.best_dice: dict[str, float] = {}  # fit -> validation Dice of its best epoch
        self._with_curve: set[str] = set()  # fits in `curves`

    def enter(self, trial: FrozenTrial) -> None:
        """Include a trial, with its finished fits."""
        number = trial.number
        self.drawn[number] = trial
        self.configurations[number] = self.space.configuration(self.space.sample(FixedTrial(trial.params)))
        self.fits(trial)
        self._see(number)
        # It was cut, perhaps against one that is not entered yet.
        if number not in self.seen and number in self.verdicts:
            self.predictions.mark(number)

    def fits(self, trial: FrozenTrial) -> list[str]:
        """Ids of the fits of any trial, fold by fold. An id is a hash over all cases, so it is computed once."""
        if trial.number not in self.fit_ids and (params := self.space.drawn(trial.params)) is not None:
            specs = fold_specs(self.space.configuration(params), self.plan)
            self.fit_ids[trial.number] = [spec.fit_id for spec in specs]
            for fit_id in self.fit_ids[trial.number]:
                self.shares.setdefault(fit_id, []).append(trial.number)
        return self.fit_ids.get(trial.number, [])

    def finished(self, number: int) -> tuple[int, ...]:
        """Folds of a trial with a finished fit."""
        return tuple(fold for fold, fit_id in enumerate(self.fit_ids[number]) if self._is_on_record(fit_id))

    def _is_on_record(self, fit_id: str) -> bool:
        """Whether a fit is finished. The file system is asked until it is, and never afterwards."""
        if fit_id not in self.on_record and self.ledger.has(fit_id):
            self.on_record.add(fit_id)
        return fit_id in self.on_record

    def lost(self, trials: Iterable[FrozenTrial]) -> dict[str, FitSpec]:
        """Fits that a verdict or a score is based on, and whose records are gone."""
        lost: dict[str, FitSpec] = {}
        for trial in trials:
            is_complete = trial.state == TrialState.COMPLETE
            folds = range(len(self.plan.folds)) if is_complete else self.judged.get(trial.number, ())
            if trial.state == TrialState.FAIL or not (ids := self.fits(trial)):
                continue
            gone = [fold for fold in folds if not self._is_on_record(ids[fold])]
            if gone:
                configuration = self.space.configuration(self.space.sample(FixedTrial(trial.params)))
                lost |= {ids[fold]: fold_specs(configuration, self.plan)[fold] for fold in gone}
        return lost

    def seconds_of_fit(self, fit_id: str) -> float | None:
        """How long a fit takes: as others of its trial, else of its network; None where none of these is finished."""
        numbers = self.shares.get(fit_id, [])
        known = [self.seconds[number] for number in numbers if number in self.seconds]
        if not known and numbers and numbers[0] in self.configurations:
            network = self.configurations[numbers[0]].network
            known = [s for n, s in self.seconds.items() if self.configurations[n].network == network]
        return sum(known) / len(known) if known else None

    def look_again(self) -> None:
        """Score the fits that were finished since, of all trials."""
        for number in self.configurations:
            self._see(number)

    def lacking(self, number: int, folds: Iterable[int] | None = None) -> list[str]:
        """Ids of the unfinished fits of a trial, on these folds or on all, without access to files."""
        ids = self.fit_ids[number]
        return [ids[f] for f in (range(len(ids)) if folds is None else folds) if ids[f] not in self.on_record]

    def missing(self, number: int) -> list[int]:
        """Folds of a trial without a finished fit."""
        done = self.finished(number)
        return [fold for fold in range(len(self.plan.folds)) if fold not in done]

    def unjudged(self, number: int) -> list[int]:
        """Folds with a finished fit that no verdict considered, as after a kill in between."""
        return [fold for fold in self.finished(number) if fold not in self.judged.get(number, ())]

    def is_judged(self, number: int) -> bool:
        """Whether the latest verdict considered every finished fit; a trial that was cut may have none."""
        return number in self.judged and not self.unjudged(number)

    @cached_property
    def curves(self) -> Finished:
        """Learning curves of all finished fits, from the ledger the first time."""
        validated = [fit for fit in self.ledger.summaries() if fit.is_validated]
        self._with_curve = {fit.fit_id for fit in validated}
        return Finished(Curve(fit.val_dice, fit.num_epochs) for fit in validated)

    def observe(self, number: int, fold: int) -> None:
        """Score a fit that was just finished, and what may have been finished with it: trials that share the fit, and
        those that were stopped with fits in flight. Others cannot have changed, and are not looked up."""
        curves, fit_id = self.curves, self.fit_ids[number][fold]
        if fit_id not in self._with_curve and self._is_on_record(fit_id):
            self._with_curve.add(fit_id)
            fit = self.ledger.summary(fit_id)
            curves.append(Curve(fit.val_dice, fit.num_epochs))
        before = self.seen.get(number, ())
        self._see(number)
        new = (fold for fold in self.seen.get(number, ()) if fold not in before)
        for other in {one for fold in new for one in self.shares[self.fit_ids[number][fold]]} | {*self.late}:
            if other in self.configurations:
                self._see(other)

    def rank(self) -> None:
        """Update the predictions that rank the trials, where the rule uses predictions."""
        if self.race.rule.uses_predictions:
            self.predictions.update(self._past_of)

    def expected(self) -> dict[int, float]:
        """Trial -> Dice predicted by the model, fitted to all scores so far; {} if the rule uses none."""
        if not self.race.rule.uses_predictions:
            return {}
        self.predictions.renew(self._past_of)
        return dict(self.race.board.predictions)

    def _past_of(self, number: int) -> PastTrial:
        return self.past(self.drawn[number])

    def record(self, number: int, verdict: Verdict) -> None:
        """Write down a verdict on the folds that are scored."""
        self.log.add(number, self.seen[number], verdict)
        if verdict.action == "stop" and len(self.seen[number]) < len(self.plan.folds):
            self.late.append(number)

    def record_cut(self, number: int, verdict: Verdict) -> None:
        """Write down a verdict that ends a trial within a fit."""
        self.late.append(number)
        self.log.add(number, self.finished(number), verdict)
        if self.known(number) is not None:
            self.predictions.mark(number)

    def num_epochs(self, number: int) -> int:
        """Length of the schedule of a fit of this trial."""
        return self.configurations[number].recipe.epochs

    def reached(self, number: int) -> dict[int, float]:
        """Fold -> validation Dice of the best epoch, of the folds that are scored."""
        return {fold: self._best_dice(number, fold) for fold in self.seen.get(number, ())}

    def infeasible(self, number: int) -> Verdict | None:
        """A verdict that stops a trial that violates a constraint; None of the baseline, which is the reference."""
        if number == 0 or (broken := self.broken(number)) is None:
            return None
        return Verdict("stop", f"Its {broken}.", None, self.excess(number))

    def shown(self, number: int) -> tuple[tuple[int, ...], TrialScore] | None:
        """The folds by which a trial is displayed, and its score over them; None before a fit is finished.

        These are the finished folds; of a stopped trial, those that its last verdict considered.
        """
        folds = self.seen.get(number, ())
        if number in self.verdicts and self.verdicts[number].action == "stop":
            folds = tuple(fold for fold in self.judged[number] if fold in folds)
        if not folds:
            return None
        if folds == self.seen[number]:
            return folds, self.scores[number]
        if number not in self._shown or self._shown[number][0] != folds:
            self._shown[number] = (
                folds,
                self.score_of(self._records(number, folds), self.configurations[number]),
            )
        return self._shown[number]

    def partial(self, number: int) -> PartialScore | None:
        """Score of a trial without all its folds; None of a complete one."""
        folds, score = self.shown(number) or ((), None)
        if len(folds) == len(self.plan.folds):
            return None
        look = self.looks.get(number, NOTHING_SEEN)
        return partial(
            score.metrics["dice"] if score is not None else None,
            len(self.plan.folds),
            look if look.folds == folds else SeenFolds(folds),
        )

    def leave(self, number: int) -> None:
        """Exclude a trial that failed, and learn nothing from its scores."""
        self.failed.add(number)
        self.race.exclude(number)
        self.predictions.leave(number)

    def broken(self, number: int) -> str | None:
        """The constraints that a trial violates, in words; None: none is known to be violated."""
        return self.secondary.broken(self.configurations[number], self.inference_ms.get(number, ()))

    def is_ineligible(self, number: int) -> bool:
        """Whether a trial is excluded from the ranking: it violates a constraint, or failed."""
        return number in self.race.board.excluded

    def excess(self, number: int) -> dict[str, float]:
        """Constraint -> share by which a trial exceeds its limit, as far as that is known."""
        return self.secondary.excess(self.configurations[number], self.inference_ms.get(number, ()))

    def value(self, number: int) -> float | None:
        """The objective of a complete trial; of another an estimate; None before a fit is finished or cut."""
        self._see(number)
        return self.known(number)

    def values(self, number: int) -> tuple[float, ...] | None:
        """`value`, then the secondary objectives."""
        value = self.value(number)
        return None if value is None else (value, *self._secondary(number))

    def _secondary(self, number: int) -> tuple[float, ...]:
        if not self.secondary.objectives:
            return ()
        return self.secondary.values(
            self.configurations[number], self.scores[number], self.inference_ms[number]
        )

    def past(self, trial: FrozenTrial) -> PastTrial:
        """A trial as samplers see it; the same object as before, where nothing has changed."""
        value = None if trial.state == TrialState.FAIL else self.known(trial.number)
        num_folds = max(1, len(self.seen.get(trial.number, ())))
        known = self._past.get(trial.number)
        by_fold = {} if value is None else self._by_fold(trial.number)
        same = trial, value, num_folds, by_fold
        if known is not None and (known.trial, known.value, known.num_folds, known.by_fold) == same:
            return known
        secondary, excess = self._past_secondary(trial, value)
        seconds = self.seconds.get(trial.number)
        self._past[trial.number] = PastTrial(
            trial, value, num_folds, secondary, excess, seconds, by_fold, self.race.board.fold_weights
        )
        return self._past[trial.number]

    def _by_fold(self, number: int) -> Mapping[int, float]:
        """Fold -> Dice, where the objective is its mean."""
        return self.race.board.by_fold(number) if self.objective.is_mean else {}

    def _past_secondary(
        self, trial: FrozenTrial, value: float | None
    ) -> tuple[tuple[float, ...], dict[str, float]]:
        if value is None:
            return (), {}
        unknown = dict.fromkeys(map(str, self.secondary.limits), 0.0)  # neither satisfied nor violated
        return self._secondary(trial.number), unknown | self.excess(trial.number)

    def known(self, number: int) -> float | None:
        """The value of a trial, from what is scored already, without access to files."""
        if number not in self.seen:
            return self._value_of_cut(self.verdicts[number]) if number in self.verdicts else None
        complete = len(self.seen[number]) == len(self.plan.folds)
        return self.objective(self.scores[number]) if complete else self._estimate(number)

    def _estimate(self, number: int) -> float:
        """Estimate of the objective of an incomplete trial, from its mean.

        Its folds may lack the worst one, so it is put as far below its mean as the incumbent is below its own.
        """
        mean, incumbent = self.race.estimate(number), self.race.incumbent
        if self.objective.is_mean or incumbent is None or incumbent not in self.scores:
            return mean
        score = self.scores[incumbent]
        return mean + self.objective(score) - score.metrics["dice"]

    def front(self) -> tuple[int, ...]:
        """Complete trials that no other dominates, over several objectives; empty where there is one objective."""
        if not self.secondary.objectives:
            return ()
        complete = [
            number
            for number, folds in self.seen.items()
            if len(folds) == len(self.plan.folds) and self.broken(number) is None
        ]
        found = {
            number: (self.objective(self.scores[number]), *self._secondary(number)) for number in complete
        }
        return tuple(sorted(front(found, self.secondary.directions)))

    def _best_dice(self, number: int, fold: int) -> float:
        """The best Dice of a finished fit; kept, because every epoch of another fit needs it and a record is long."""
        fit_id = self.fit_ids[number][fold]
        if fit_id not in self.best_dice:
            self.best_dice[fit_id] = max(self.ledger.summary(fit_id).val_dice)
        return self.best_dice[fit_id]

    def _value_of_cut(self, verdict: Verdict) -> float | None:
        """Estimate of a trial without finished fits: as far below the incumbent as its cut fit was expected to end."""
        difference = expected_difference(verdict)
        if difference is None or verdict.against not in self.seen:
            return None
        return self._estimate(verdict.against) + difference

    def _see(self, number: int) -> None:
        """Score all validated images of the finished fits, with masks chosen over these folds together."""
        folds = self.finished(number)
        if not folds or folds == self.seen.get(number):
            return
        records = self._records(number, folds)
        score = self.scores[number] = self.score_of(records, self.configurations[number])
        dice = [scores_under(record.histograms, score.masks)["dice"] for record in records]
        self.inference_ms[number] = [record.inference_ms for record in records]
        self.seconds[number] = sum(record.seconds for record in records) / len(records)
        if self.broken(number) is not None:
            self.race.exclude(number)
        depends = self.configurations[number].masks.is_open
        chosen_by = (lambda some: self._dice_as_chosen_by(number, some)) if depends else None
        self.race.see(number, dict(zip(folds, dice, strict=True)), chosen_by)
        self.seen[number] = folds
        if number not in self.failed:
            self.predictions.mark(number)

    def _dice_as_chosen_by(self, number: int, folds: Sequence[int]) -> dict[int, np.ndarray]:
        """Fold -> Dice of its images, with masks chosen over these folds alone."""
        records = self._records(number, folds)
        masks = self.configurations[number].masks.best(
            np.concatenate([one.histograms for one in records]), "dice"
        )
        scored = [scores_under(record.histograms, masks)["dice"] for record in records]
        return dict(zip(folds, scored, strict=True))

    def _records(self, number: int, folds: Sequence[int]) -> list[FitRecord]:
        return [self.ledger.read(self.fit_ids[number][fold]) for fold in folds]
