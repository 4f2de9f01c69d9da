"""The search engine as a Tune Searcher: asks it for visits, and reports visits that ended."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from orchestrator.search.engine import Engine, Idle
from orchestrator.search.optuna_trials import OptunaTrials
from orchestrator.search.race.state import RaceState


class EngineSearcher(Searcher):
    """Suggests visits to Tune until the engine has no more. A visit is a trial of Tune; it decides nothing."""

    def __init__(self, engine: Engine[RaceState, OptunaTrials]) -> None:
        super().__init__()  # no metric: Tune would demand it in every result, and only the last one has it
        self.engine = engine
        self.visits: dict[str, int] = {}  # Tune's trial id -> number of our trial

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # Tune's own FINISHED is a str
        """The next visit, {"number", "params", "folds"}; None while there is none; FINISHED at the end."""
        visit = self.engine.ask()
        if isinstance(visit, Idle):
            return None if visit is Idle.LATER else Searcher.FINISHED
        self.visits[trial_id] = visit.number
        params = self.engine.trials.params(visit.number)
        return {"number": visit.number, "params": params, "folds": list(visit.folds)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell the engine that the process of the trial works; results are judged by the scheduler."""
        if result.get("updates"):
            self.engine.is_alive(result["number"])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Report that a visit has ended."""
        number = self.visits.pop(trial_id)
        if error:
            self.engine.fail(number)
        else:
            self.engine.end(number)

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its searcher for `Tuner.restore`, which is never used here."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal and the ledger are the state, and every start reads them."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: see `save`."""
