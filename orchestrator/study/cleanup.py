"""Deletion of weights and checkpoints of trials that can no longer win."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from itertools import islice

from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.race.state import RaceState
from orchestrator.study.runnable_study import RunnableStudy

# Trials whose weights are kept; any other can be champion again only by a refit.
KEEP_WEIGHTS = 3


class WeightCleanup:
    """Keeps the weights of the best trials and of open ones; deletes checkpoints that are of no further use."""

    def __init__(self, study: RunnableStudy, state: RaceState) -> None:
        self.ledger, self.state = study.store.ledger, state
        self.num_best = max(KEEP_WEIGHTS, study.rescore)
        self.ranked: list[tuple[float, int]] = []  # complete trials: minus the value, number
        self.kept: set[int] = set()  # of those that are over
        self.lost: set[int] = set()

    def __call__(self, trials: Sequence[FrozenTrial]) -> None:
        """Delete weights and checkpoints that are useless once these trials have ended."""
        for trial in trials:
            self.state.fits(trial)
            if trial.state == TrialState.COMPLETE:
                insort(self.ranked, (-trial.values[0], trial.number))
        able = (number for _, number in self.ranked if not self.state.is_ineligible(number))
        keep = {*self.state.front(), *islice(able, self.num_best)}
        over = {*self.kept, *(trial.number for trial in trials)}
        self.kept = over & keep
        self.lost |= over - keep
        drop = {
            fit for number in over - keep for fit in self.state.fit_ids.get(number, ()) if self._is_lost(fit)
        }
        self.ledger.drop_weights(drop)
        self.ledger.drop_checkpoints(drop)

    def _is_lost(self, fit_id: str) -> bool:
        """Whether a fit belongs to no trial that is open or kept."""
        return self.lost.issuperset(self.state.shares[fit_id])
