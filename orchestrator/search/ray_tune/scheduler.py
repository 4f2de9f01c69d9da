"""The race as a Tune scheduler: it listens to epochs and folds, and ends a trial that can no longer win.

What a finished fold means is decided by race_rules.py, what an epoch means by cuts.py: here their verdicts become
Tune's. A trial that is paused ends for Tune, holds nothing, and is suggested again by the searcher when its turn
comes; so pausing needs no checkpoint of Tune's, and a study that was killed has nothing to restore.
"""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.search.race.early_stopping import Curve, Finished, cut
from orchestrator.search.race.state import RaceState
from orchestrator.search.records.fit_records import FitRecord


class RaceScheduler(FIFOScheduler):
    """Stops trials as the standings say."""

    def __init__(self, standings: RaceState) -> None:
        super().__init__()
        self.standings = standings
        self.dice: dict[str, dict[int, float]] = {}  # fit -> epoch -> validation Dice, as far as it was told
        self.finished = Finished(Curve(*curve) for curve in standings.ledger.curves())

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its scheduler for `Tuner.restore`, which is never used here."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Judge every fold that is finished; of the others look at their epochs."""
        number = result["number"]
        stops = [self._is_over(number, news) for news in result["news"]]
        return TrialScheduler.STOP if any(stops) or result["all_finished"] else TrialScheduler.CONTINUE

    def _is_over(self, number: int, news: dict[str, Any]) -> bool:
        told = self.dice.setdefault(news["fit_id"], {})
        if news["done"]:
            del self.dice[news["fit_id"]]
            self.finished.append(curve_of(self.standings.ledger.read(news["fit_id"])))
            return self.standings.judge(number).action == "stop"
        # One after the other: what becomes of a fit must not depend on when we listen.
        for row in news["rows"]:
            told[int(row["epoch"])] = row["val_dice"]
            if self._is_hopeless(number, news["fold"], told):
                return True
        return False

    def _is_hopeless(self, number: int, fold: int, told: dict[int, float]) -> bool:
        """An epoch that was not told counts as nothing."""
        target = self.standings.target(number, fold)
        if target is None:
            return False
        dice = [told.get(epoch, 0.0) for epoch in range(max(told) + 1)]
        verdict = cut(
            Curve(dice, self.standings.configurations[number].recipe.epochs),
            self.finished,
            target.dice,
            target.number,
            target.lead,
        )
        if verdict is not None:
            self.standings.cut(number, verdict)
        return verdict is not None


def curve_of(record: FitRecord) -> Curve:
    """The curve of a finished fit."""
    return Curve([row["val_dice"] for row in record.curves], record.spec.recipe.epochs)
