"""The search loop as one policy: which trial is trained next, on which folds, and what its epochs and fits lead to.

A backend carries out what `Engine.ask` returns and reports back: `epoch` and `finish` while a visit lasts, then `end`
or `fail`. Two backends exist: Ray Tune with lanes (`ray_tune/`), and lanes on a simulated clock (`simulated/`). The
engine knows neither Ray nor a clock, and reads no file: `State` holds what fits have shown, `TrialStore` the trials.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from orchestrator.common.errors import MachineFault
from orchestrator.common.faults import fault_of
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.race.early_stopping import Curve, Finished, cut, lead_of
from orchestrator.search.race.rules import Race, Verdict
from orchestrator.search.samplers.stopping_rule import ShownTrial

MAX_FAILED = (
    10  # trials that fail in a row before a run gives up: whatever the cause, the next one would fail too
)
MAX_LOST = (
    6  # deaths in a row of the process that waits for a trial, without any epoch, before the search stops
)


class Idle(Enum):
    """Reason why `Engine.ask` returns no visit."""

    LATER = "later"  # ask again when a visit has ended
    OVER = "over"  # the search has ended


@dataclass(frozen=True)
class Visit:
    """The folds of a trial that are trained next."""

    number: int  # of the trial
    folds: tuple[int, ...]


@dataclass
class LaneCapacity:
    """Number of visits (a trial on some of its folds) that may be in flight at a time."""

    num_folds: int
    num_lanes: Callable[[], int] = lambda: 1  # changes as nodes come and go
    is_eager: bool = True  # one visit more than lanes need; False: the backend asks only when a lane is idle

    def lanes(self) -> int:
        return self.num_lanes()

    def visits(self, trains_all_folds: bool) -> float:
        """The most visits at a time; with one lane it is one, so that the same study is repeated exactly."""
        if not self.is_eager:
            return math.inf
        lanes = self.num_lanes()
        if lanes == 1:
            return 1
        return -(-lanes // self.num_folds) + 1 if trains_all_folds else lanes + 1


class State(Protocol):
    """Scores of all trials from their finished fits, and the verdicts of the race so far."""

    race: Race
    verdicts: dict[int, Verdict]  # trial -> the latest one

    @property
    def curves(self) -> Finished:
        """Learning curves of all finished fits."""

    def observe(self, number: int, fold: int) -> None:
        """Take in the finished fit of a trial on a fold."""

    def rank(self) -> None:
        """Update the ranks of trials, where the rule ranks them by the predictions of a model."""

    def record(self, number: int, verdict: Verdict) -> None:
        """Keep a verdict on the folds observed so far."""

    def record_cut(self, number: int, verdict: Verdict) -> None:
        """Keep a verdict that ends a trial within a fit."""

    def missing(self, number: int) -> list[int]:
        """Folds of a trial without a finished fit."""

    def unjudged(self, number: int) -> list[int]:
        """Folds with a finished fit that no verdict has considered."""

    def is_judged(self, number: int) -> bool:
        """Whether the latest verdict considered every finished fit of a trial."""

    def reached(self, number: int) -> Mapping[int, float]:
        """Fold -> validation Dice of the best epoch, of the finished fits of a trial."""

    def num_epochs(self, number: int) -> int:
        """Length of the schedule of a fit."""

    def lacking(self, number: int, folds: Iterable[int] | None = None) -> list[str]:
        """Ids of the unfinished fits of a trial, on these folds or on all."""

    def infeasible(self, number: int) -> Verdict | None:
        """A verdict on a trial that violates a constraint; None: it violates none."""

    def leave(self, number: int) -> None:
        """Exclude a trial that failed."""


class TrialStore(Protocol):
    """The trials of a study: begins them, and keeps how each ended."""

    @property
    def num_begun(self) -> int:
        """Trials begun so far, over all runs."""

    def open(self) -> list[int]:
        """Trials that an earlier run left open."""

    def reopen(self, number: int) -> None:
        """Prepare an open trial of an earlier run to go on."""

    def begin(self) -> int | None:
        """Begin a trial with a new configuration; None: no untried configuration is found."""

    def complete(self, number: int) -> None:
        """Close a trial that has all folds."""

    def stop(self, number: int, reason: str) -> None:
        """Close a trial without all its folds."""

    def fail(self, number: int) -> str | None:
        """Close a trial with the recorded reason of its failure; None, and open still: none is recorded."""

    def shown(self) -> Sequence[ShownTrial]:
        """Every configuration with its value so far, in the order of the trials."""

    def recorded_end(self) -> Mapping[str, Any] | None:
        """The reason why the search ended, as `record_end` stored it; None before that."""

    def record_end(self, end: Mapping[str, Any]) -> None:
        """Keep why no new trial is begun in this study."""


S = TypeVar("S", bound=State)
T = TypeVar("T", bound=TrialStore)


class Engine(Generic[S, T]):
    """One study's decisions: ask, judge, cut, end. Every decision follows from the order of these calls alone."""

    def __init__(
        self,
        trials: T,
        state: S,
        gate: BudgetGate,
        lanes: LaneCapacity,
        *,
        only_finalists: bool = False,
        most_failed: int = MAX_FAILED,
    ) -> None:
        """only_finalists: a trial that the race lets go on waits, too, until no new one is begun.

        most_failed: trials that fail in a row before the run ends.
        """
        self.trials, self.state, self.gate, self.lanes = trials, state, gate, lanes
        self.only_finalists, self.most_failed = only_finalists, most_failed
        self.visits: dict[int, tuple[int, ...]] = {}  # in flight: trial -> folds
        self.next: list[int] = []  # trials that are trained before anything else
        self.waiting: list[int] = []  # trials that the race has paused: they hold nothing
        self.dice: dict[tuple[int, int], dict[int, float]] = {}  # (trial, fold) in flight -> epoch -> Dice
        self.num_failed = 0  # trials that failed in a row
        self.num_lost = Counter[int]()  # trial -> deaths of its process since its last epoch
        self.fault: MachineFault | None = None  # why the search cannot go on now
        self.is_affordable = True  # whether the budget allows the folds that waiting trials lack
        gate.recall(trials.recorded_end())
        for number in trials.open():
            trials.reopen(number)
            if state.is_judged(number):
                self._place(number)
            else:
                self.next.append(number)
        state.rank()  # as before an interruption: the incumbent is the one of which most is expected

    @property
    def trains_all_folds(self) -> bool:
        return self.state.race.rule.trains_all_folds

    @property
    def is_over(self) -> bool:
        """Whether no trial is open and none may be begun."""
        return not self.trials.open() and not self._may_begin()

    def ask(self) -> Visit | Idle:
        """The next visit; it is in flight until `end` or `fail`."""
        if len(self.visits) >= self.lanes.visits(self.trains_all_folds):
            return Idle.LATER
        if self.num_failed >= self.most_failed or self.fault is not None:
            return self._idle()
        may_begin = self._may_begin()
        number = self.next.pop(0) if self.next else self._recall(may_begin)
        if number is None and may_begin:
            number = self.trials.begin()
            if number is None:
                self.gate.close("space", "no configuration is left that was not tried")
                self._record_end()
                return self.ask()
        if number is None:
            return self._idle()
        self.visits[number] = ()
        self.visits[number] = tuple(self._folds(number, may_begin))
        return Visit(number, self.visits[number])

    def epoch(self, number: int, fold: int, epoch: int, dice: float) -> Verdict | None:
        """Report the validation Dice of one epoch of a fit, counted from 0; a verdict where its trial is stopped.

        An epoch that was not reported counts as Dice 0.
        """
        curve = self.dice.setdefault((number, fold), {})
        curve[epoch] = dice
        verdict = self._cut(number, fold, [curve.get(e, 0.0) for e in range(max(curve) + 1)])
        if verdict is not None:
            self.state.record_cut(number, verdict)
        return verdict

    def finish(self, number: int, fold: int) -> Verdict:
        """Report a finished fit; returns the verdict: its trial goes on, waits or is stopped."""
        self.dice.pop((number, fold), None)
        self.state.observe(number, fold)
        self.state.rank()
        verdict = self._compared(number, self.state.infeasible(number) or self.state.race.judge(number))
        self.state.record(number, verdict)
        return verdict

    def is_alive(self, number: int) -> None:
        """Report that the process of a trial works."""
        self.num_lost.pop(number, None)

    def end(self, number: int) -> None:
        """Report that a visit has ended, after a verdict or without: an interrupted trial is trained again."""
        self.visits.pop(number, None)
        if self.state.is_judged(number):
            self.num_failed = 0
            self._place(number)
        else:  # a fold was finished after the verdict, or the visit was interrupted
            self.next.append(number)

    def fail(self, number: int) -> None:
        """Report that a trial failed. One without a recorded reason, whose process was killed, is trained again."""
        self.visits.pop(number, None)
        reason = self.trials.fail(number)
        if reason is None:
            self._lose(number)
            return
        self.state.leave(number)
        self.num_failed += 1
        if self.num_failed >= self.most_failed:
            why = f"{self.num_failed} trials in a row failed, the last one: {reason.splitlines()[0]}"
            self.gate.close("failures", why)

    def interrupt(self) -> None:
        """Report that the backend has lost every visit in flight: all are asked for again."""
        self.next += [number for number in self.visits if number not in self.next]
        self.visits.clear()

    def finalists(self, in_flight: Iterable[int]) -> list[int]:
        """Trials, waiting or in flight, that would be given folds if no new one was begun, the best first."""
        return self.state.race.finalists([*self.waiting, *in_flight])

    def _lose(self, number: int) -> None:
        """Queue a trial whose waiting process died; `MAX_LOST` deaths in a row end the search.

        That process does nothing but wait, so its death is no failure of the trial.
        """
        self.num_lost[number] += 1
        self.next.append(number)
        if self.num_lost[number] >= MAX_LOST:
            died = f"the process that waits for trial {number} died {MAX_LOST} times"
            self.fault = fault_of("this cluster", died, "see whether memory runs out on the head's machine")
            self.gate.close("machine", str(self.fault))

    def _place(self, number: int) -> None:
        """Complete, stop or queue a trial, or let it wait, as its last verdict says."""
        verdict = self.state.verdicts[number]
        if not self.state.missing(number):
            self.trials.complete(number)
        elif verdict.action == "stop":
            self.trials.stop(number, verdict.reason)
        elif verdict.action == "go" and not self.only_finalists:
            self.next.append(number)
        else:
            self.waiting.append(number)

    def _idle(self) -> Idle:
        """`Idle.LATER` while visits are in flight; otherwise the search ends and `Idle.OVER` is returned."""
        if self.visits:
            return Idle.LATER
        self._close()
        return Idle.OVER

    def _close(self) -> None:
        """Stop the trials that wait, unless the next run goes on with them."""
        if self.gate.end is not None and self.gate.end.is_of_this_run:
            return
        why = (
            "the study ended"
            if self.is_affordable
            else "the study ended with no budget for the missing folds"
        )
        for number in self.waiting:
            self.trials.stop(number, f"{why}; {self.state.verdicts[number].reason}")
        self.waiting.clear()

    def _folds(self, number: int, may_begin: bool) -> list[int]:
        """Folds of the next visit: finished ones that no verdict considered; of the baseline all that are missing, else
        one. Once no new trial is begun, as many as there are idle lanes."""
        missing, unjudged = self.state.missing(number), self.state.unjudged(number)
        if unjudged:
            return unjudged
        if number == 0 or self.trains_all_folds:
            return missing
        idle = 0 if may_begin else self.lanes.num_lanes() - len(self.visits)
        return missing[: max(1, idle)]

    def _may_begin(self) -> bool:
        """Whether a new trial may be begun. What ended the study for good is recorded, so that it ends a later run."""
        was_open = self.gate.end is None
        begun = self.trials.num_begun
        new_fits = self.lanes.num_folds if self.trains_all_folds or not begun else 1
        is_open = self.gate.is_open(begun, self._fits_held_back, self.trials.shown, new_fits)
        if was_open and not is_open:
            self._record_end()
        return is_open

    def _record_end(self) -> None:
        if (end := self.gate.remember()) is not None:
            self.trials.record_end(end)

    def _recall(self, may_begin: bool) -> int | None:
        """A waiting trial that goes on now, or None.

        Once no new trial is begun and one has all folds, only within the budget: trials for which folds were held back
        may turn out worse than others, which then want folds in their place.
        """
        self.state.rank()
        number = self.state.race.recall(tuple(self.waiting), may_begin)
        if number is None:
            return None
        if may_begin or not self.state.race.board.may_end or self._affords(number):
            self.waiting.remove(number)
            return number
        self.waiting.remove(number)
        self.waiting.append(number)
        self.is_affordable = False
        return None

    def _affords(self, number: int) -> bool:
        """Whether the budget allows all folds of this trial and of those in flight."""
        return self.gate.affords(fit for one in {number, *self.visits} for fit in self.state.lacking(one))

    def _fits_held_back(self) -> float:
        """Remaining work of visits in flight and of the finalists' missing folds, in units of a mean fit."""
        in_flight = set(self.visits)
        finalists = self.finalists(in_flight)
        wanted = [fit for number in finalists for fit in self.state.lacking(number)]
        for number in in_flight.difference(finalists):
            wanted += self.state.lacking(number, self.visits[number])
        return self.gate.usage.left_of(wanted)

    def _cut(self, number: int, fold: int, dice: Sequence[float]) -> Verdict | None:
        """Stop a trial within a fit that can no longer reach what the incumbent reached on this fold."""
        incumbent = self.state.race.incumbent
        if self.trains_all_folds or incumbent is None or number in (0, incumbent):
            return None
        reached = self.state.reached(incumbent)
        if fold not in reached:
            return None
        lead = lead_of(self.state.reached(number), reached, fold, self.state.race.board.num_images)
        curve = Curve(dice, self.state.num_epochs(number))
        return cut(curve, self.state.curves, reached[fold], incumbent, lead)

    def _compared(self, number: int, verdict: Verdict) -> Verdict:
        """The verdict with the paired difference to the incumbent added, under every rule of the race."""
        incumbent = self.state.race.incumbent
        if incumbent is None or incumbent == number:
            return verdict
        found = self.state.race.board.compare(number, incumbent)
        if found is None:
            return verdict
        pair = {"paired_difference": found.difference, "compared_with": float(incumbent)}
        return replace(verdict, numbers=verdict.numbers | pair)
