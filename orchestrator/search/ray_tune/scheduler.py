"""The search engine as a Tune scheduler: reports epochs and finished fits to it, and ends the trials that it stops.

A paused trial ends for Tune, holds nothing, and is suggested again by the searcher when its turn comes. So pausing
needs no checkpoint of Tune's, and a study that was killed has nothing to restore.
"""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from orchestrator.search.engine import Engine


class EngineScheduler(FIFOScheduler):
    """Scheduler that stops the trials that the engine stops; it decides nothing itself."""

    def __init__(self, engine: Engine[Any, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.engine = engine

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its scheduler for `Tuner.restore`, which is never used here."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP where the engine stops the trial, and where the visit is carried out."""
        number = result["number"]
        stops = [self._is_stopped(number, update) for update in result["updates"]]
        return TrialScheduler.STOP if any(stops) or result["all_finished"] else TrialScheduler.CONTINUE

    def _is_stopped(self, number: int, update: dict[str, Any]) -> bool:
        if update["done"]:
            return self.engine.finish(number, update["fold"]).action == "stop"
        # One epoch after the other: the verdict on a fit must not depend on how many arrive together.
        epochs = ((int(row["epoch"]), row["val_dice"]) for row in update["rows"])
        return any(self.engine.epoch(number, update["fold"], *epoch) is not None for epoch in epochs)
