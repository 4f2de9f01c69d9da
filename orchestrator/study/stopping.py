"""When a whole search stops before its budget is used up."""

from __future__ import annotations

from typing import Any

from ray.tune import Stopper

from orchestrator.common.interruption import asked
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.ray_tune.searcher import OptunaSearcher
from orchestrator.training.ray.lanes import Lanes


class SearchStopper(Stopper):
    """Stops the whole search when its hours are over, somebody asked, or the machine does not let it go on."""

    def __init__(self, purse: BudgetGate, searcher: OptunaSearcher, lanes: Lanes) -> None:
        self.purse, self.searcher, self.lanes = purse, searcher, lanes

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles it for `Tuner.restore`, which is never used here."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        fault = self.searcher.fault or self.lanes.fault
        if asked() is not None:
            self.purse.close("interrupted", "it was interrupted")
        elif fault is not None:
            self.purse.close("machine", str(fault))
        elif self.purse.is_out_of_time:
            self.purse.close("hours", f"{self.purse.budget.hours:g} hours are over")
        return (
            asked() is not None
            or fault is not None
            or self.purse.is_out_of_time
            or self.lanes.broken is not None
        )
