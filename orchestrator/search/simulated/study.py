"""Studies without training: the search engine in a world with a known best, on a simulated clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.budget.limits import Budget
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.engine import MAX_FAILED, Engine, LaneCapacity
from orchestrator.search.race.rules import Race
from orchestrator.search.simulated.lanes import SimulatedLanes
from orchestrator.search.simulated.memory import (
    MemoryState,
    MemoryTrials,
    Proposer,
    SeenTrials,
    SimulatedTrial,
    WorldFits,
)
from orchestrator.search.simulated.worlds import Instance

UNLIMITED = 10**9  # trials


@dataclass(frozen=True)
class Outcome:
    """A simulated study at a budget, and its chosen trial: with all folds, of the highest expected score."""

    fits: int  # that have ended; those that were cut too
    epochs: int
    seconds: float  # of lanes, together
    chosen: int
    regret: float  # of the chosen trial, Dice
    regret_by_score: float  # of the one with the highest mean over all folds
    least_regret: float  # of all trials: what it could have chosen
    num_configurations: int
    best_was_stopped: bool  # the truly best of all trials was stopped for good
    best_was_cut: bool  # within a fit


class SimulatedStudy:
    """One study in a world: proposals are shown estimates, the engine decides, simulated lanes carry out."""

    def __init__(
        self,
        instance: Instance,
        race: Race,
        propose: Proposer,
        *,
        lanes: int = 1,
        seed: int = 0,
        predict: Callable[[SeenTrials], NDArray[np.float64]] | None = None,
        seconds: Callable[[int, int], float] | None = None,
        most_failed: int = MAX_FAILED,
    ) -> None:
        """predict: values by which trials are ranked. seconds(number, fold): how long a fit takes; default: about 1.

        most_failed: trials that fail in a row before the study ends.
        """
        self.instance, self.race = instance, race
        self.trials: list[SimulatedTrial] = []
        fits = WorldFits(instance, self.trials, seed, seconds)
        self.state = MemoryState(race, fits, instance.space, predict)
        gate = BudgetGate(Budget(trials=UNLIMITED), ResourceUsage(None))
        self.engine = Engine(
            MemoryTrials(self.state, instance.baselines, propose, seed),
            self.state,
            gate,
            LaneCapacity(instance.world.num_folds, lambda: lanes, is_eager=False),
            most_failed=most_failed,
        )
        self.lanes = SimulatedLanes(self.engine, fits, lanes)

    def run(self, budgets: Sequence[int]) -> list[Outcome]:
        """Outcome at each budget of fits: no more begin, those in flight end, finalists get their folds."""
        outcomes, lanes = [], self.lanes
        for budget in sorted(budgets):
            lanes.run(lambda budget=budget: lanes.num_fits + lanes.num_in_flight >= budget)  # type: ignore[misc]
            outcomes.append(deepcopy(self).finish(f"{budget} fits were begun"))
        return outcomes

    def run_seconds(self, budgets: Sequence[float]) -> list[Outcome]:
        """The results of `run` at each budget of lane time, of which a sampler knows what is left."""
        return [deepcopy(self).run_for(budget) for budget in sorted(budgets)]

    def run_for(self, budget: float) -> Outcome:
        lanes = self.lanes
        self.state.time_left = lambda: max(0.0, 1 - lanes.busy / budget)
        lanes.run(lambda: lanes.busy >= budget)
        return self.finish(f"{budget:g} seconds of lanes were used")

    def run_trials(self, num_trials: int) -> Outcome:
        """Outcome after that number of trials were begun and the finalists got their folds."""
        self.engine.gate.budget = Budget(trials=num_trials)
        self.lanes.run()
        return self._outcome()

    def finish(self, why: str) -> Outcome:
        """Begin no more trials, for this reason, give the finalists their folds, and select."""
        self.engine.only_finalists = True
        self.engine.gate.close("fits", why)
        self.lanes.run()
        return self._outcome()

    def _outcome(self) -> Outcome:
        regrets = [
            np.inf if trial.state == "failed" else self.instance.regret(trial.point) for trial in self.trials
        ]
        chosen = self.race.incumbent
        assert chosen is not None
        highest = max(self.race.board.complete(), key=lambda number: (self.race.board.mean(number), -number))
        best = int(np.argmin(regrets))
        verdict = self.state.verdicts.get(best)
        return Outcome(
            fits=self.lanes.num_fits,
            epochs=self.lanes.num_epochs,
            seconds=self.lanes.busy,
            chosen=chosen,
            regret=regrets[chosen],
            regret_by_score=regrets[highest],
            least_regret=regrets[best],
            num_configurations=len(self.trials),
            best_was_stopped=verdict is not None and verdict.action == "stop",
            best_was_cut=best in self.state.cut,
        )
