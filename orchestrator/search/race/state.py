"""What every setting of a study has shown so far, and what becomes of it: goes on, waits, is stopped, is complete.

Everything follows from the ledger and from Optuna's journal, so a study that was killed stands where it stood. Each
verdict is one line of `race.jsonl`, with its numbers: replayed in that order, the ledger gives the same verdicts again.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from orchestrator.common.files import append
from orchestrator.data.splits.split_file import SplitPlan
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.search.choices import RuleName
from orchestrator.search.goals.goals import SecondaryGoals, front
from orchestrator.search.goals.objective import Objective
from orchestrator.search.race.early_stopping import lead_of
from orchestrator.search.race.paired_scores import MORE
from orchestrator.search.race.rules import Race, Verdict
from orchestrator.search.race.verdict_log import read_verdicts
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.records.partial_score import NOTHING_SEEN, PartialScore, SeenFolds, partial
from orchestrator.search.records.trial_score import TrialScore, fold_specs, score_trial
from orchestrator.search.samplers.draw import PastTrial, shown
from orchestrator.search.samplers.fold_aware_sampler import PosteriorMeans, posterior_means
from orchestrator.search.samplers.inducing_points import EXACT
from orchestrator.search.space.space import Configuration, SearchSpace
from orchestrator.training.recipe import FitSpec

LATE = 4  # trials, the last ones that were stopped, of which a fit may come on record after all


@dataclass(frozen=True)
class RecordedVerdict:
    """A verdict, and the folds that it was passed on."""

    number: int
    folds: tuple[int, ...]
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        return {"trial": self.number, "folds": list(self.folds), **asdict(self.verdict)}

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> RecordedVerdict:
        verdict = Verdict(line["action"], line["reason"], line["against"], line["numbers"])
        return cls(line["trial"], tuple(line["folds"]), verdict)


@dataclass(frozen=True)
class Target:
    """What the incumbent reached on a fold."""

    number: int
    dice: float  # validation Dice of its best epoch
    lead: float = 0.0  # by which a fit may fall short of that: its trial is ahead on other folds


class RaceState:
    """The settings that are not over yet, and the race between them."""

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
    ) -> None:
        self.ledger, self.space, self.plan, self.rule, self.log = ledger, space, plan, rule, log
        self.group_of_case = group_of_case
        self.race = Race(rule, [[group_of_case[case_id] for case_id in fold.val] for fold in plan.folds])
        self.objective, self.secondary = objective or Objective(), secondary or SecondaryGoals()
        self.inference_ms: dict[int, list[float | None]] = {}  # of every trial, by its finished folds
        self.drawn: dict[int, FrozenTrial] = {}  # with the searched parameters
        self.configurations: dict[int, Configuration] = {}
        self.fit_ids: dict[int, list[str]] = {}  # of every trial, fold by fold
        self.seen: dict[int, tuple[int, ...]] = {}  # the folds of every trial that the race has seen
        self.scores: dict[int, TrialScore] = {}  # over these folds
        self.beliefs: PosteriorMeans | None = None  # what the race ranks settings by
        self.place_of: dict[int, int] = {}  # of each setting among those
        self.scores_believed = 0  # of folds, that they rest on
        self.believed_against: int | None = None  # the incumbent of then
        self.unbelieved: set[int] = set()  # settings of which more is known since
        self.shares: dict[
            str, list[int]
        ] = {}  # fit -> the trials that have it: those of other masks share theirs
        self.late: deque[int] = deque(
            maxlen=LATE
        )  # stopped while a fit was in flight, which may come on record yet
        self._past: dict[int, PastTrial] = {}
        self.verdicts: dict[int, Verdict] = {}  # the last one of every trial
        self.judged: dict[int, tuple[int, ...]] = {}  # the folds that it was passed on
        self.looks: dict[int, SeenFolds] = {}  # these, and whom it was compared with on them
        self._shown: dict[int, tuple[tuple[int, ...], TrialScore]] = {}  # of stopped trials
        self.waiting: list[int] = []  # paused: they hold nothing
        self.failed: set[int] = set()
        self.on_record: set[str] = set()  # fits
        self.best_dice: dict[str, float] = {}  # fit -> validation Dice of its best epoch
        for line in read_verdicts(log):
            self._note(RecordedVerdict.of(line))

    def enter(self, trial: FrozenTrial) -> None:
        """Let a setting take part, with the folds that are on record."""
        number = trial.number
        self.drawn[number] = trial
        self.configurations[number] = self.space.configuration(self.space.sample(FixedTrial(trial.params)))
        self.fits(trial)
        self._see(number)

    def fits(self, trial: FrozenTrial) -> list[str]:
        """The fits of any trial, fold by fold; their names cost a hash over all cases, so it is made once."""
        if trial.number not in self.fit_ids and (params := self.space.drawn(trial.params)) is not None:
            specs = fold_specs(self.space.configuration(params), self.plan)
            self.fit_ids[trial.number] = [spec.fit_id for spec in specs]
            for fit_id in self.fit_ids[trial.number]:
                self.shares.setdefault(fit_id, []).append(trial.number)
        return self.fit_ids.get(trial.number, [])

    def finished(self, number: int) -> tuple[int, ...]:
        """Folds of a trial that are on record."""
        return tuple(fold for fold, fit_id in enumerate(self.fit_ids[number]) if self._is_on_record(fit_id))

    def _is_on_record(self, fit_id: str) -> bool:
        """Once it is, it is: this is asked for every trial, again and again."""
        if fit_id not in self.on_record and self.ledger.has(fit_id):
            self.on_record.add(fit_id)
        return fit_id in self.on_record

    def lost(self, trials: Iterable[FrozenTrial]) -> dict[str, FitSpec]:
        """Fits that were on record once, for a verdict or a score rests on them, and are not any more."""
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

    def look_again(self) -> None:
        """Take in what came on record of trials that take part already."""
        for number in self.configurations:
            self._see(number)

    def lacking(self, number: int, folds: Iterable[int] | None = None) -> list[str]:
        """Fits of a trial, all or those of some folds, that are not known to be on record; no file is looked at."""
        ids = self.fit_ids[number]
        return [ids[f] for f in (range(len(ids)) if folds is None else folds) if ids[f] not in self.on_record]

    def missing(self, number: int) -> list[int]:
        done = self.finished(number)
        return [fold for fold in range(len(self.plan.folds)) if fold not in done]

    def unjudged(self, number: int) -> list[int]:
        """Folds on record that no verdict has seen: the study was killed when they came in."""
        return [fold for fold in self.finished(number) if fold not in self.judged.get(number, ())]

    def is_judged(self, number: int) -> bool:
        """Whether the last verdict knew all folds on record; a trial without any may have been cut."""
        return number in self.judged and not self.unjudged(number)

    def judge(self, number: int) -> Verdict:
        """Look at what is on record of a trial by now, and say whether it goes on; the verdict is written down."""
        self._see_news(number)
        self._believe()
        verdict = self._compared(number, self._ineligible(number) or self.race.judge(number))
        self._write(RecordedVerdict(number, self.seen[number], verdict))
        if verdict.action == "stop" and len(self.seen[number]) < len(self.plan.folds):
            self.late.append(number)
        return verdict

    def _see_news(self, number: int) -> None:
        """Take in what came on record of a trial, and with it of those that share a fit or may end late.

        Of all others nothing can have come: a look at each would be thousands of questions to a file system.
        """
        before = self.seen.get(number, ())
        self._see(number)
        new = (fold for fold in self.seen.get(number, ()) if fold not in before)
        for other in {one for fold in new for one in self.shares[self.fit_ids[number][fold]]} | {*self.late}:
            if other in self.configurations:
                self._see(other)

    def _compared(self, number: int, verdict: Verdict) -> Verdict:
        """With how the trial compares with the incumbent on the same images, whatever the rule goes by."""
        incumbent = self.race.incumbent
        if incumbent is None or incumbent == number:
            return verdict
        found = self.race.board.compare(number, incumbent)
        if found is None:
            return verdict
        pair = {"paired_difference": found.difference, "compared_with": float(incumbent)}
        return replace(verdict, numbers=verdict.numbers | pair)

    def shown(self, number: int) -> tuple[tuple[int, ...], TrialScore] | None:
        """The folds that a trial is shown by, and its score over them: all on record, of a stopped one those that it
        was stopped by. None before any; a file is read once at most."""
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
                score_trial(self._records(number, folds), self.configurations[number]),
            )
        return self._shown[number]

    def partial(self, number: int) -> PartialScore | None:
        """What a trial without all its folds has shown; None of one that has all."""
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
        """A setting that failed: it cannot win, and nothing is learned from it, but others were measured against it."""
        self.failed.add(number)
        self.race.exclude(number)
        self.beliefs = None

    def _ineligible(self, number: int) -> Verdict | None:
        """A setting that costs too much goes no further, but for the paper's, which is the reference."""
        if number == 0 or (broken := self.broken(number)) is None:
            return None
        return Verdict("stop", f"Its {broken}.", None, self.excess(number))

    def broken(self, number: int) -> str | None:
        """In words, which limits a setting exceeds, if any."""
        return self.secondary.broken(self.configurations[number], self.inference_ms.get(number, ()))

    def is_ineligible(self, number: int) -> bool:
        """Whether it cannot win: it was seen to exceed a limit, or failed."""
        return number in self.race.board.barred

    def excess(self, number: int) -> dict[str, float]:
        """Limit -> by what share a setting exceeds it, as far as that is known."""
        return self.secondary.excess(self.configurations[number], self.inference_ms.get(number, ()))

    def cut(self, number: int, verdict: Verdict) -> None:
        """Write down that a trial was stopped within a fold."""
        self.late.append(number)
        self._write(RecordedVerdict(number, self.finished(number), verdict))

    def value(self, number: int) -> float | None:
        """The score of a complete trial; of another what the race makes of it; None before it shows anything."""
        self._see(number)
        return self.known(number)

    def values(self, number: int) -> tuple[float, ...] | None:
        """`value`, and that of every further objective."""
        value = self.value(number)
        return None if value is None else (value, *self._secondary(number))

    def _secondary(self, number: int) -> tuple[float, ...]:
        if not self.secondary.objectives:
            return ()
        return self.secondary.values(
            self.configurations[number], self.scores[number], self.inference_ms[number]
        )

    def past(self, trial: FrozenTrial) -> PastTrial:
        """A setting as samplers are shown it; of one of which nothing else is known, the same as before."""
        value = None if trial.state == TrialState.FAIL else self.known(trial.number)
        num_folds = max(1, len(self.seen.get(trial.number, ())))
        known = self._past.get(trial.number)
        if known is not None and (known.trial, known.value, known.num_folds) == (trial, value, num_folds):
            return known
        self._past[trial.number] = PastTrial(trial, value, num_folds, *self._past_secondary(trial, value))
        return self._past[trial.number]

    def _past_secondary(
        self, trial: FrozenTrial, value: float | None
    ) -> tuple[tuple[float, ...], dict[str, float]]:
        if value is None:
            return (), {}
        unknown = dict.fromkeys(map(str, self.secondary.limits), 0.0)  # neither kept nor exceeded
        return self._secondary(trial.number), unknown | self.excess(trial.number)

    def known(self, number: int) -> float | None:
        """As `value`, of what was seen by now; no file is looked at."""
        if number not in self.seen:
            return self._value_of_cut(self.verdicts[number]) if number in self.verdicts else None
        complete = len(self.seen[number]) == len(self.plan.folds)
        return self.objective(self.scores[number]) if complete else self._estimate(number)

    def _estimate(self, number: int) -> float:
        """What the race makes of an incomplete trial, a mean, brought to the scale of the objective.

        Its folds may lack the worst one, so it is put as far below its mean as the incumbent is below its own.
        """
        mean, incumbent = self.race.estimate(number), self.race.incumbent
        if self.objective.is_mean or incumbent is None or incumbent not in self.scores:
            return mean
        score = self.scores[incumbent]
        return mean + self.objective(score) - score.metrics["dice"]

    def front(self) -> tuple[int, ...]:
        """The complete trials that no other is better than in all objectives; none where there is one objective."""
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

    def target(self, number: int, fold: int) -> Target | None:
        """What a fit of this trial is measured against; None where nothing may be cut."""
        incumbent = self.race.incumbent
        if self.rule == "none" or incumbent is None or incumbent == number or number == 0:
            return None
        if not self._is_on_record(self.fit_ids[incumbent][fold]):
            return None
        seen = self.seen.get(number, ())
        own = {done: self._best_dice(number, done) for done in seen}
        others = {done: self._best_dice(incumbent, done) for done in self.seen[incumbent]}
        lead = lead_of(own, others, fold, self.race.board.num_images)
        return Target(incumbent, self._best_dice(incumbent, fold), lead)

    def _best_dice(self, number: int, fold: int) -> float:
        """Of a finished fit: asked for at every epoch of another, and a record is long."""
        fit_id = self.fit_ids[number][fold]
        if fit_id not in self.best_dice:
            self.best_dice[fit_id] = max(row["val_dice"] for row in self.ledger.read(fit_id).curves)
        return self.best_dice[fit_id]

    def recall(self, new_wanted: bool) -> int | None:
        """Take up a paused trial again, or nobody."""
        self._believe()
        number = self.race.recall(tuple(self.waiting), new_wanted)
        if number is not None:
            self.waiting.remove(number)
        return number

    @property
    def may_end(self) -> bool:
        """Whether a setting that may win has all its folds."""
        return self.race.board.may_end

    def finalists(self, running: Iterable[int]) -> list[int]:
        """Who would be given folds if no new setting came from now on, the best first."""
        return self.race.finalists([*self.waiting, *running])

    def _value_of_cut(self, verdict: Verdict) -> float | None:
        """As far below the incumbent as the fit was when it was cut."""
        if verdict.against is None or "best_dice" not in verdict.numbers:
            return None
        return self._estimate(verdict.against) + verdict.numbers["best_dice"] - verdict.numbers["target"]

    def _believe(self) -> None:
        """Let the race rank settings by a model of all that was seen.

        Of many settings the model is made anew when there is 1 % more to know, or another incumbent, by which all are
        valued; till then only what it believes of those of which more is known.
        """
        if self.rule != "paired" or (self.beliefs is not None and not self.unbelieved):
            return
        if self._may_wait():
            some = {number: self._belief(number) for number in self.unbelieved - self.failed}
            self.race.believe(some, anew=False)
        else:
            self._believe_anew()
        self.unbelieved.clear()

    def _may_wait(self) -> bool:
        board = self.race.board
        return (
            self.beliefs is not None
            and self.beliefs.model is not None
            and len(self.seen) > EXACT
            and board.num_scores <= MORE * self.scores_believed
            and board.incumbent == self.believed_against
        )

    def _believe_anew(self) -> None:
        numbers = sorted(number for number in self.seen if number not in self.failed)
        self.beliefs = PosteriorMeans([self.past(self.drawn[number]).shown for number in numbers])
        self.place_of = {number: place for place, number in enumerate(numbers)}
        self.race.believe(dict(zip(numbers, self.beliefs.all(), strict=False)))
        self.scores_believed, self.believed_against = self.race.board.num_scores, self.race.incumbent

    def _belief(self, number: int) -> float:
        assert self.beliefs is not None
        return self.beliefs.of(self.past(self.drawn[number]).shown, self.place_of.get(number))

    def _see(self, number: int) -> None:
        """Dice of every validated image, masks made as the finished folds together choose."""
        folds = self.finished(number)
        if not folds or folds == self.seen.get(number):
            return
        records = self._records(number, folds)
        score = self.scores[number] = score_trial(records, self.configurations[number])
        dice = [scores_under(record.histograms, score.masks)["dice"] for record in records]
        self.inference_ms[number] = [record.inference_ms for record in records]
        if self.broken(number) is not None:
            self.race.exclude(number)
        depends = self.configurations[number].masks.is_open
        chosen_by = (lambda some: self._dice_as_chosen_by(number, some)) if depends else None
        self.race.see(number, dict(zip(folds, dice, strict=True)), chosen_by)
        self.seen[number] = folds
        self.unbelieved.add(number)

    def _dice_as_chosen_by(self, number: int, folds: Sequence[int]) -> dict[int, np.ndarray]:
        """Dice of the images of some folds, masks made as these alone choose."""
        records = self._records(number, folds)
        masks = self.configurations[number].masks.best(
            np.concatenate([one.histograms for one in records]), "dice"
        )
        scored = [scores_under(record.histograms, masks)["dice"] for record in records]
        return dict(zip(folds, scored, strict=True))

    def _records(self, number: int, folds: Sequence[int]) -> list[FitRecord]:
        return [self.ledger.read(self.fit_ids[number][fold]) for fold in folds]

    def _write(self, judged: RecordedVerdict) -> None:
        line = json.dumps({"at": round(time.time(), 3), **judged.as_dict()})
        append(self.log, f"{line}\n".encode(), sync=True)
        self._note(judged)

    def _note(self, judged: RecordedVerdict) -> None:
        self.verdicts[judged.number], self.judged[judged.number] = judged.verdict, judged.folds
        self.looks[judged.number] = self.looks.get(judged.number, NOTHING_SEEN).then(judged.as_dict())


def beliefs(seen: Sequence[PastTrial]) -> dict[int, float]:
    """What a model of all settings believes of each, by number: where folds are few, neighbours speak for a setting."""
    found = posterior_means([shown(past) for past in sorted(seen, key=lambda past: past.trial.number)])
    numbers = sorted(past.trial.number for past in seen)
    return {numbers[place]: value for place, value in found.items()}
