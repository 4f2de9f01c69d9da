"""Weights and checkpoints of trials that can no longer win are deleted."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from itertools import islice

from optuna.trial import FrozenTrial, TrialState

from orchestrator.search.race.state import RaceState
from orchestrator.study.spec import Study

# Trials whose weights are kept; any other can be champion again only by a refit.
KEEP_WEIGHTS = 3


class WeightCleanup:
    """Keeps the weights of the best trials and of those that may still be it; forgets checkpoints nobody will want."""

    def __init__(self, study: Study, standings: RaceState) -> None:
        self.ledger, self.standings = study.home.ledger, standings
        self.num_best = max(KEEP_WEIGHTS, study.rescore)
        self.ranked: list[tuple[float, int]] = []  # complete trials: minus the value, number
        self.kept: set[int] = set()  # of those that are over
        self.lost: set[int] = set()

    def __call__(self, trials: Sequence[FrozenTrial]) -> None:
        """Of trials that are over and that were not told of before; only what changes with them is looked at."""
        for trial in trials:
            self.standings.fits(trial)
            if trial.state == TrialState.COMPLETE:
                insort(self.ranked, (-trial.values[0], trial.number))
        able = (number for _, number in self.ranked if not self.standings.is_ineligible(number))
        keep = {*self.standings.front(), *islice(able, self.num_best)}
        over = {*self.kept, *(trial.number for trial in trials)}
        self.kept = over & keep
        self.lost |= over - keep
        drop = {
            fit
            for number in over - keep
            for fit in self.standings.fit_ids.get(number, ())
            if self._is_lost(fit)
        }
        self.ledger.drop_weights(drop)
        self.ledger.drop_checkpoints(drop)

    def _is_lost(self, fit_id: str) -> bool:
        """Whether it is of no trial that is open, or kept."""
        return self.lost.issuperset(self.standings.shares[fit_id])
