"""The Tune Searcher on a native Optuna study: asks once, tells once, and goes on after a crash.

What it suggests is a visit: a setting and the folds that it is trained on next. A new setting begins with one fold,
the paper's with all; who comes again, and when, is for the race to say. The study lives in a journal file. A trial
that was open when everything died is taken up under its own number; its finished folds are read from the ledger.

The sampler never reads that study. It is shown one made for the occasion, in which every setting that has shown
anything has an honest value, so that what is thought of a setting can change as more of its folds come in. It is
seeded by (study seed, trial number), so a study that was interrupted asks the same questions as one that was not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search import Searcher

from orchestrator.common.errors import MachineFault
from orchestrator.common.faults import fault_of
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.choices import SamplerName
from orchestrator.search.race.state import RaceState
from orchestrator.search.samplers.draw import Proposal, TriedConfigurations, draw
from orchestrator.search.samplers.stopping_rule import Shown
from orchestrator.search.space.space import SearchSpace
from orchestrator.training.recipe import FitSpec

# After so many trials that failed one after another this run gives up: whatever it is, the next would fail too.
MAX_FAILED = 10
# What is said in Optuna of the value of a stopped trial.
IMPUTED = "the value is what the race makes of a trial without all its folds; it is no score"
# When the process of a trial, which only waits, died so often without news in between, the search stops.
MAX_LOST = 6


@dataclass
class LaneCapacity:
    """How much may be in flight."""

    num_folds: int
    num_lanes: Callable[[], int] = lambda: 1  # changes as nodes come and go

    def lanes(self) -> int:
        return self.num_lanes()

    def visits(self, rule: str) -> int:
        """One more than there are lanes, so that none waits for a decision; one of one: the same every time."""
        lanes = self.num_lanes()
        if lanes == 1:
            return 1
        return -(-lanes // self.num_folds) + 1 if rule == "none" else lanes + 1


class OptunaSearcher(Searcher):
    """Suggests visits to Tune until the purse is empty and the race needs no more folds."""

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        standings: RaceState,
        *,
        purse: BudgetGate,
        seed: int,
        room: LaneCapacity,
        sampler: SamplerName = "surrogate",
        warm_start_configurations: Sequence[dict[str, Any]] = (),
    ) -> None:
        super().__init__()  # no metric: Tune would demand it in every result, and only the last one has it
        self.study, self.space, self.standings = study, space, standings
        self.purse, self.seed, self.room, self.sampler = purse, seed, room, sampler
        self.warm_start_configurations = (
            warm_start_configurations  # settings of trials 1, 2, ...: nobody is asked for these
        )
        self.running: dict[str, int] = {}  # Tune's trial id -> Optuna's trial number
        self.next: list[int] = []  # trials that are wanted before anything else
        self.has_room = True  # in the budget, for those who still want folds
        self.num_failed = 0  # trials that failed one after another
        self.num_lost = Counter[int]()  # how often the process of a trial died since its last news
        self.fault: MachineFault | None = None  # why the search cannot go on now
        purse.recall(study.user_attrs.get("end"))
        trials = study.get_trials(deepcopy=False)
        self.num_asked = sum(trial.state != TrialState.WAITING for trial in trials)
        self.tried = TriedConfigurations(space, (trial.params for trial in trials))
        self.asked: dict[int, list[int]] = {}  # trial -> folds of its last visit
        self.over: list[int] = []  # trials that Optuna was told of and that nobody has reported yet
        if not trials:
            study.enqueue_trial(space.baseline, skip_if_exists=True)
        for trial in trials:
            standings.ledger.trials.write(trial)
            if trial.state.is_finished() and standings.fits(trial):
                standings.enter(trial)
            if trial.state == TrialState.FAIL:
                standings.leave(trial.number)
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                self._take_up(trial.number)

    @property
    def is_over(self) -> bool:
        """Whether this run has nothing to do: no trial is open, and no new one may be begun."""
        stored = self.study.get_trials(deepcopy=False)
        return not any(trial.state == TrialState.RUNNING for trial in stored) and not self._wants_new()

    def lost(self) -> dict[str, FitSpec]:
        """Fits that were on record once, and are not any more."""
        return self.standings.lost(self.study.get_trials(deepcopy=False))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # Tune's own FINISHED is a str
        """Return {"number", "params", "folds"}, None while nothing is to be begun, FINISHED when all is said."""
        if len(self.running) >= self.room.visits(self.standings.rule):
            return None
        if self.num_failed >= MAX_FAILED or self.fault is not None:
            return None if self.running else self._close()
        new_wanted = self._wants_new()
        number = self.next.pop(0) if self.next else self._recall(new_wanted)
        if number is None and new_wanted:
            number = self._ask()
            if number is None:
                return self.suggest(trial_id)  # no new one is wanted now
        if number is None:
            return None if self.running else self._close()
        self.running[trial_id] = number
        self.asked[number] = self._folds(number, new_wanted)
        params = self.space.sample(self._open_trial(number))
        return {"number": number, "params": params, "folds": self.asked[number]}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Epochs and folds are the scheduler's business; who has news is alive."""
        if result.get("news"):
            self.num_lost.pop(result["number"], None)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna of a trial that is over. One that waits, or was only interrupted, stays open."""
        number = self.running.pop(trial_id)
        if error:
            self._fail(number)
        elif self.standings.is_judged(number):
            self.num_failed = 0
            self._place(number)
        else:  # a fold came in after the verdict; or it was interrupted, for the next run
            self.next.append(number)

    def take_back(self) -> None:
        """Tune has ended without a word on what it was given: all of that is suggested again."""
        self.next += [number for number in self.running.values() if number not in self.next]
        self.running.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher for `Tuner.restore`, which is never used here."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal and the ledger are the state, and every start reads them."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""

    def _take_up(self, number: int) -> None:
        """A trial that an earlier run left open: it stands where its folds and the verdict on them leave it."""
        self.space.sample(self._open_trial(number))  # it may have died before it had all its parameters
        self.standings.enter(self.stored(number))
        self.standings.ledger.forget_failure(number)  # Optuna was not told: it is tried again
        if self.standings.is_judged(number):
            self._place(number)
        else:
            self.next.append(number)

    def _place(self, number: int) -> None:
        """What becomes of a trial whose finished folds are judged."""
        verdict = self.standings.verdicts[number]
        if not self.standings.missing(number):
            self._tell_excess(number)
            self._tell(number, values=self.standings.values(number))
        elif verdict.action == "stop":
            self._stop(number, verdict.reason)
        elif verdict.action == "go":
            self.next.append(number)
        else:
            self.standings.waiting.append(number)

    def _fail(self, number: int) -> None:
        """Tell Optuna of a trial that failed; one that is gone without a word, with its process, is tried again.

        Its process does nothing but wait, so that whatever ends it is no failure of the trial.
        """
        reason = self.standings.ledger.failure(number)
        if reason is None:
            self.num_lost[number] += 1
            self.next.append(number)
            if self.num_lost[number] >= MAX_LOST:
                died = f"the process that waits for trial {number} died {MAX_LOST} times"
                self.fault = fault_of(
                    "this cluster", died, "see whether memory runs out on the head's machine"
                )
                self.purse.close("machine", str(self.fault))
            return
        self._open_trial(number).set_user_attr("error", reason)
        self._tell(number, state=TrialState.FAIL)
        self.standings.leave(number)
        self.num_failed += 1
        if self.num_failed >= MAX_FAILED:
            why = f"{self.num_failed} trials failed one after another, the last: {reason.splitlines()[0]}"
            self.purse.close("failures", why)

    def _stop(self, number: int, reason: str) -> None:
        """Tell Optuna of a trial without all its folds: pruned, at the value that its folds speak for."""
        trial = self._open_trial(number)
        trial.set_user_attr("stopped", reason)
        self._tell_excess(number)
        value = self.standings.value(number)
        if (shown := self.standings.partial(number)) is not None:
            trial.set_user_attr("shown", str(shown))
            for name, known in shown.metrics().items():
                trial.set_user_attr(name, known)
        if value is not None and len(self.study.directions) == 1:
            trial.set_user_attr("imputed", IMPUTED)
            trial.report(value, step=len(self.standings.finished(number)))
        self._tell(number, state=TrialState.PRUNED)

    def _tell(self, number: int, **result: Any) -> None:
        """Tell Optuna how a trial ended, then put it on record."""
        self.study.tell(number, **result)
        self.over.append(number)
        self.standings.ledger.trials.write(self.stored(number))

    def _tell_excess(self, number: int) -> None:
        """Tell Optuna how far a trial is within its limits; what an earlier run has told stays."""
        trial = self._open_trial(number)
        for limit, excess in self.standings.excess(number).items():
            if limit not in trial.constraints:
                trial.set_constraint(limit, excess)

    def _close(self) -> str:
        """No trial is wanted any more: those that still wait are over, unless the next run goes on with them."""
        if self.purse.end is not None and self.purse.end.is_of_this_run:
            return Searcher.FINISHED
        why = "the study ended" if self.has_room else "the study ended, with no budget for the folds it lacks"
        for number in self.standings.waiting:
            self._stop(number, f"{why}; {self.standings.verdicts[number].reason}")
        self.standings.waiting.clear()
        return Searcher.FINISHED

    def _ask(self) -> int | None:
        """Begin a new trial; its parameters are in the journal before anything is trained. None: all were tried."""
        if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            if (drawn := self._draw()) is None:
                self.purse.close("space", "no setting is found that was not tried")
                self._remember_end()
                return None
            self.study.enqueue_trial(drawn.params, user_attrs=drawn.marks)
        trial = self.study.ask()
        self.num_asked += 1
        self.space.sample(trial)
        self.tried.add(self.stored(trial.number).params)
        self.standings.ledger.trials.write(self.stored(trial.number))
        self.standings.enter(self.stored(trial.number))
        return trial.number

    def _draw(self) -> Proposal | None:
        if self.num_asked <= len(self.warm_start_configurations):
            return Proposal(self.warm_start_configurations[self.num_asked - 1], {})
        past = [self.standings.past(trial) for trial in self.study.get_trials(deepcopy=False)]
        seed = _seed(self.seed, self.num_asked)
        directions, secondary = self.study.directions, self.standings.secondary
        return draw(self.space, past, self.sampler, seed, directions, secondary, self.tried)

    def _folds(self, number: int, new_wanted: bool) -> list[int]:
        """The folds of the next visit: those on record that nobody judged, all of the paper's setting, else one.

        When no new setting will come, as many as there are idle lanes for.
        """
        missing, unjudged = self.standings.missing(number), self.standings.unjudged(number)
        if unjudged:
            return unjudged
        if number == 0 or self.standings.rule == "none":
            return missing
        idle = 0 if new_wanted else self.room.num_lanes() - len(self.running)
        return missing[: max(1, idle)]

    def _wants_new(self) -> bool:
        """Once the budget is used up the journal knows it: who resumes begins no new setting either."""
        was_open = self.purse.end is None
        new = self.room.num_folds if self.standings.rule == "none" or not self.num_asked else 1
        is_open = self.purse.is_open(self.num_asked, self._fits_held_back, self._shown, new)
        if was_open and not is_open:
            self._remember_end()
        return is_open

    def _remember_end(self) -> None:
        if (end := self.purse.remember()) is not None:
            self.study.set_user_attr("end", end)
            self.standings.ledger.trials.write_end(end)

    def _recall(self, new_wanted: bool) -> int | None:
        """Who waits and goes on. When no new setting will come, within the budget, once one has all its folds.

        Those for whom was held back what is left may turn out worse than others, who want folds in their place.
        """
        number = self.standings.recall(new_wanted)
        if number is None or new_wanted or not self.standings.may_end:
            return number
        wanted = [fit for one in {number, *self.running.values()} for fit in self._fits(one)]
        if self.purse.affords(wanted):
            return number
        self.standings.waiting.append(number)
        self.has_room = False
        return None

    def _fits(self, number: int, folds: Sequence[int] | None = None) -> list[str]:
        """Those that a trial lacks, of all folds or of these."""
        return self.standings.lacking(number, folds)

    def _fits_held_back(self) -> float:
        """What is left of the visits in flight, and of what the finalists would still need, in fits."""
        running = set(self.running.values())
        finalists = self.standings.finalists(running)
        wanted = [fit for number in finalists for fit in self._fits(number)]
        wanted += [
            fit
            for number in running.difference(finalists)
            for fit in self._fits(number, self.asked.get(number))
        ]
        return self.purse.spending.left_of(wanted)

    def _shown(self) -> list[Shown]:
        """Every setting that has shown anything, by number; one that failed, or costs too much, has shown that."""
        shown = []
        for trial in self.study.get_trials(deepcopy=False):
            failed = trial.state == TrialState.FAIL or self.standings.is_ineligible(trial.number)
            value = None if failed or not trial.params else self.standings.known(trial.number)
            if value is not None or failed:
                folds = len(self.standings.seen.get(trial.number, ()))
                shown.append(Shown(trial.params, trial.distributions, value, folds))
        return shown

    def stored(self, number: int) -> FrozenTrial:
        """A trial as Optuna has it."""
        storage, study_id = self.study._storage, self.study._study_id
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study_id, number))

    def _open_trial(self, number: int) -> Trial:
        """Parameters drawn before come back as they were."""
        return Trial(self.study, self.stored(number)._trial_id)


def _seed(seed: int, number: int) -> int:
    return (seed * 1_000_003 + number) % 2**32
