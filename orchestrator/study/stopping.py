"""When a whole search stops before its budget is used up."""

from __future__ import annotations

from typing import Any

from ray.tune import Stopper

from orchestrator.common.interruption import requested_signal
from orchestrator.search.engine import Engine
from orchestrator.training.ray.lanes import Lanes


class SearchStopper(Stopper):
    """Stops the whole search when its hours are over, on an interrupt, and on a fault of the machine."""

    def __init__(self, engine: Engine[Any, Any], lanes: Lanes) -> None:
        self.engine, self.gate, self.lanes = engine, engine.gate, lanes

    def __getstate__(self) -> dict[str, Any]:
        """Empty state: Tune pickles it for `Tuner.restore`, which is never used here."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Whether the whole search stops now; open trials go on in the next run."""
        fault = self.engine.fault or self.lanes.fault
        if requested_signal() is not None:
            self.gate.close("interrupted", "it was interrupted")
        elif fault is not None:
            self.gate.close("machine", str(fault))
        elif self.gate.is_out_of_time:
            self.gate.close("hours", f"{self.gate.budget.hours:g} hours are over")
        return (
            requested_signal() is not None
            or fault is not None
            or self.gate.is_out_of_time
            or self.lanes.broken is not None
        )
