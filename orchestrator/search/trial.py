"""The Tune Trainable: one setting, fold after fold. Holds no GPU: it asks the lanes and waits.

Each step returns as soon as there is news: an epoch of the fold in training, a fold finished, the trial scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray import tune

from orchestrator.data.splits import SplitPlan
from orchestrator.errors import FitFailed
from orchestrator.search.folds import fold_specs, score_trial
from orchestrator.search.ledger import Ledger
from orchestrator.search.space import SearchSpace
from orchestrator.training.recipe import FitSpec


class FoldTrial(tune.Trainable):
    """One setting of the parameters, scored over all folds of the plan."""

    def setup(  # type: ignore[override]  # tune.with_parameters adds the keywords
        self, config: dict[str, Any], *, space: SearchSpace, plan: SplitPlan, ledger: Ledger, dispatcher: Any
    ) -> None:
        self.space, self.plan, self.ledger, self.dispatcher = space, plan, ledger, dispatcher
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        self.number = config["number"]
        self.settings = self.space.settings(config["params"])
        self.specs = fold_specs(self.settings, self.plan)
        self.fold = 0
        self.num_seen = 0
        self.submitted: set[str] = set()

    def step(self) -> dict[str, Any]:
        """Return the next news of this trial. Raises `FitFailed` if a fold cannot be finished."""
        spec = self.specs[self.fold]
        told = {
            "number": self.number,
            "fold": self.fold,
            "fit_id": spec.fit_id,
            "rows": [],
            "fold_done": False,
        }
        if self.ledger.has(spec.fit_id):
            return told | self._fold_done()
        self._submit(spec)
        news = ray.get(self.dispatcher.follow.remote(spec.fit_id, self.num_seen))
        self.num_seen += len(news.rows)
        told["rows"] = list(news.rows)
        if news.state == "failed":
            error = f"fold {self.fold}: {news.error}"
            self.ledger.write_failure(self.number, error)
            raise FitFailed(error)
        if news.state == "stopped":  # another trial that shared it has just let it go: ask for it again
            self.submitted.remove(spec.fit_id)
            self.num_seen = 0
        return told | (self._fold_done() if news.state == "finished" else {})

    def cleanup(self) -> None:
        """Tell the lanes that this trial waits for nothing any more: what still trains stops after its epoch."""
        self._leave(range(self.fold, len(self.specs)))

    def _submit(self, spec: FitSpec) -> None:
        if spec.fit_id not in self.submitted:
            self.submitted.add(spec.fit_id)
            ray.get(self.dispatcher.submit.remote(spec.fit_id, spec))

    def _leave(self, folds: Sequence[int]) -> None:
        for fold in folds:
            fit_id = self.specs[fold].fit_id
            if fit_id in self.submitted:
                ray.get(self.dispatcher.leave.remote(fit_id))

    def _fold_done(self) -> dict[str, Any]:
        self.fold += 1
        self.num_seen = 0
        if self.fold < len(self.specs):
            # Queued before Tune has seen this fold, so that the lane does not wait for Tune's answer.
            following = self.specs[self.fold]
            if not self.ledger.has(following.fit_id):
                self._submit(following)
            return {"fold_done": True}
        score = score_trial([self.ledger.read(spec.fit_id) for spec in self.specs], self.settings)
        return {"fold_done": True, "done": True, "dice": score.metrics["dice"], "threshold": score.threshold}
