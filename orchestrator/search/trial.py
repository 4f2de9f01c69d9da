"""The Tune Trainable: one setting, scored over all folds. Holds no GPU: it asks the lanes and waits.

All folds are queued at once, behind those of earlier trials: lanes work on the oldest trial first, so that its score is
known early, and none stands idle. Each step returns as soon as there is news of any fold.
"""

from __future__ import annotations

from typing import Any

import ray
from ray import tune

from orchestrator.data.splits import SplitPlan
from orchestrator.errors import FitFailed
from orchestrator.search.folds import fold_specs, score_trial
from orchestrator.search.ledger import Ledger
from orchestrator.search.space import SearchSpace


class FoldTrial(tune.Trainable):
    """One setting of the parameters, scored over all folds of the plan."""

    def setup(  # type: ignore[override]  # tune.with_parameters adds the keywords
        self, config: dict[str, Any], *, space: SearchSpace, plan: SplitPlan, ledger: Ledger, dispatcher: Any
    ) -> None:
        self.space, self.plan, self.ledger, self.dispatcher = space, plan, ledger, dispatcher
        self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()  # a trial that was stopped before its end may still be waited for by nobody
        self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        self.number = config["number"]
        self.settings = self.space.settings(config["params"])
        self.fits = [spec.fit_id for spec in fold_specs(self.settings, self.plan)]
        self.waiting = dict(
            enumerate(fold_specs(self.settings, self.plan))
        )  # fold -> its fit, until it is finished
        self.num_seen: dict[str, int] = {}  # fit -> rows seen, for fits that the lanes were asked for

    def step(self) -> dict[str, Any]:
        """Return the next news of this trial's folds. Raises `FitFailed` if one cannot be finished."""
        told: dict[int, dict[str, Any]] = {}
        for fold, spec in list(self.waiting.items()):
            if self.ledger.has(spec.fit_id) and spec.fit_id not in self.num_seen:
                told[fold] = self._finished(fold, [])
            elif spec.fit_id not in self.num_seen:
                ray.get(self.dispatcher.submit.remote(spec.fit_id, spec))
                self.num_seen[spec.fit_id] = 0
        return self._result(told or self._listen())

    def cleanup(self) -> None:
        """Tell the lanes that this trial waits for nothing any more: what still trains stops after its epoch."""
        for fit_id in self.num_seen:
            ray.get(self.dispatcher.leave.remote(fit_id))
        self.num_seen.clear()

    def _listen(self) -> dict[int, dict[str, Any]]:
        heard = ray.get(self.dispatcher.follow.remote(self.num_seen))
        told = {}
        for fold, spec in list(self.waiting.items()):
            news = heard.get(spec.fit_id)
            if news is None:
                continue
            self.num_seen[spec.fit_id] += len(news.rows)
            if news.state == "failed":
                error = f"fold {fold}: {news.error}"
                self.ledger.write_failure(self.number, error)
                self.cleanup()
                raise FitFailed(error)
            if news.state == "finished":
                told[fold] = self._finished(fold, news.rows)
            else:
                told[fold] = self._news(fold, news.rows)
            if news.state in ("finished", "stopped"):
                # Stopped: another trial that shared this fit let it go just now. It is asked for again.
                del self.num_seen[spec.fit_id]
        return told

    def _finished(self, fold: int, rows: Any) -> dict[str, Any]:
        del self.waiting[fold]
        return self._news(fold, rows) | {"done": True}

    def _news(self, fold: int, rows: Any) -> dict[str, Any]:
        return {"fit_id": self.fits[fold], "rows": list(rows), "done": False}

    def _result(self, told: dict[int, dict[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {"number": self.number, "folds": told}
        if self.waiting:
            return result
        score = score_trial([self.ledger.read(fit_id) for fit_id in self.fits], self.settings)
        return result | {"done": True, "dice": score.metrics["dice"], "threshold": score.threshold}
