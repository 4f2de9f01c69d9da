"""The Tune Searcher on a native Optuna study: asks once, tells once, and goes on after a crash.

The study lives in a journal file. A trial that was running when everything died is suggested again under its own
number; its finished folds are read from the ledger. The sampler is seeded by (study seed, trial number), so a study
that was interrupted asks the same questions as one that was not.
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.samplers import TPESampler
from optuna.trial import Trial, TrialState
from ray.tune.search import Searcher

from orchestrator.search.ledger import Ledger
from orchestrator.search.space import SearchSpace


class OptunaSearcher(Searcher):
    """Suggests settings to Tune until the study holds `num_trials` trials."""

    def __init__(
        self, study: optuna.Study, space: SearchSpace, ledger: Ledger, *, num_trials: int, seed: int
    ) -> None:
        super().__init__()  # no metric: Tune would demand it in every result, and only the last one has it
        self.study, self.space, self.ledger = study, space, ledger
        self.num_trials, self.seed = num_trials, seed
        self.running: dict[str, int] = {}  # Tune's trial id -> Optuna's trial number
        trials = study.get_trials(deepcopy=False)
        self.interrupted = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
        if not trials:
            study.enqueue_trial(space.baseline, skip_if_exists=True)

    @property
    def num_remaining(self) -> int:
        """Trials that this run still has to finish."""
        over = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]
        return max(0, self.num_trials - len(over))

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]  # Tune's own FINISHED is a str
        """Return {"number", "params"} for Tune's trial, or FINISHED when the budget of trials is used up."""
        if self.interrupted:
            number = self.interrupted.pop(0)
            self.study.sampler = TPESampler(
                seed=_seed(self.seed, number)
            )  # killed before it had all its parameters
            trial = _trial(self.study, number)
        else:
            number = len([t for t in self.study.get_trials(deepcopy=False) if t.state != TrialState.WAITING])
            if number >= self.num_trials:
                return Searcher.FINISHED
            self.study.sampler = TPESampler(seed=_seed(self.seed, number))
            trial = self.study.ask()
        params = self.space.sample(trial)
        self.running[trial_id] = trial.number
        return {"number": trial.number, "params": params}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Epochs and folds say nothing to Optuna: a trial is told once, when all its folds are scored."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna how a trial ended. One that was only interrupted stays open and is taken up again later."""
        number = self.running.pop(trial_id)
        trial = self.study.get_trials(deepcopy=False)[number]
        if trial.state.is_finished():
            return
        if error:
            _trial(self.study, number).set_user_attr("error", self.ledger.failure(number))
            self.study.tell(number, state=TrialState.FAIL)
        elif result is not None and "dice" in result:
            self.study.tell(number, result["dice"])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal and the ledger are the state, and every start reads them."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


def _trial(study: optuna.Study, number: int) -> Trial:
    """Take up an open trial: parameters drawn before come back as they were."""
    return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def _seed(seed: int, number: int) -> int:
    return (seed * 1_000_003 + number) % 2**32
