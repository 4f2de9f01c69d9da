"""The Tune Trainable: one visit, a configuration on some folds. It holds no GPU: it queues fits and waits for lanes.

Its fits are queued at once, behind those queued before. Each step returns as soon as any of them has new epochs or is
finished; the engine decides what follows.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError

from orchestrator.common.errors import FitFailed, UserError
from orchestrator.common.faults import machine_fault
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.space import SearchSpace
from orchestrator.training.jobs import serialized


class FoldTrial(tune.Trainable):
    """One configuration, trained on some folds of the plan."""

    def setup(  # type: ignore[override]  # tune.with_parameters adds the keywords
        self, config: dict[str, Any], *, space: SearchSpace, plan: SplitPlan, ledger: Ledger, dispatcher: Any
    ) -> None:
        self.space, self.plan, self.ledger, self.dispatcher = space, plan, ledger, dispatcher
        with self._failure_recorded(config["number"]):
            self._start(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()  # fits of the previous visit that still train are wanted no longer
        with self._failure_recorded(new_config["number"]):
            self._start(new_config)
        return True

    def _start(self, config: dict[str, Any]) -> None:
        self.number = config["number"]
        specs = fold_specs(self.space.configuration(config["params"]), self.plan)
        self.waiting = {fold: specs[fold] for fold in config["folds"]}  # until they are finished
        self.num_seen: dict[str, int] = {}  # fit -> rows seen, for fits that the lanes were asked for

    def step(self) -> dict[str, Any]:
        """New epochs and finished fits, waiting for the first. Raises `FitFailed` if a fit cannot be finished."""
        with self._failure_recorded(self.number):
            return self._step()

    @contextmanager
    def _failure_recorded(self, number: int) -> Iterator[None]:
        """Context that records the reason of a failed trial; a machine's fault halts the search instead."""
        try:
            yield
        except Exception as failure:
            if isinstance(failure, RayError) and not isinstance(failure, RayTaskError):
                raise  # processes or machines are gone: it is tried again
            reason: Exception | None = failure if isinstance(failure, UserError) else machine_fault(failure)
            if isinstance(failure, FitFailed) or reason is None:
                reason = self._put_on_record(number, failure)
            if reason is not None:
                ray.get(self.dispatcher.halt.remote(reason))
            raise

    def _put_on_record(self, number: int, failure: Exception) -> Exception | None:
        """Record a failure; returns the fault of the machine where that is impossible."""
        reason = str(failure)
        if not isinstance(failure, FitFailed):  # a bug
            reason = f"{type(failure).__name__}: {failure}\n{traceback.format_exc()}"
        try:
            self.ledger.write_failure(number, reason)
        except OSError as refused:
            return machine_fault(refused)
        return None

    def _step(self) -> dict[str, Any]:
        updates = []
        for fold, spec in list(self.waiting.items()):
            if self.ledger.has(spec.fit_id) and spec.fit_id not in self.num_seen:
                updates.append(self._finished(fold, []))
            elif spec.fit_id not in self.num_seen:
                ray.get(self.dispatcher.submit.remote(spec.fit_id, serialized(spec), f"trial {self.number}"))
                self.num_seen[spec.fit_id] = 0
        updates = updates or self._new_updates()
        # Not "done": Tune does not pass such a result to its scheduler.
        return {"number": self.number, "updates": updates, "all_finished": not self.waiting}

    def cleanup(self) -> None:
        """Withdraw from all fits of this visit: those that no other trial needs stop after their epoch."""
        for fit_id in self.num_seen:
            ray.get(self.dispatcher.leave.remote(fit_id, f"trial {self.number}"))
        self.num_seen.clear()

    def _new_updates(self) -> list[dict[str, Any]]:
        found = ray.get(self.dispatcher.follow.remote(self.num_seen))
        updates = []
        for fold, spec in list(self.waiting.items()):
            update = found.get(spec.fit_id)
            if update is None:
                continue
            self.num_seen[spec.fit_id] += len(update.rows)
            if update.state == "failed":
                self.cleanup()
                raise FitFailed(f"fold {fold}: {update.error}")
            updates.append(
                self._finished(fold, update.rows)
                if update.state == "finished"
                else self._update(fold, update.rows)
            )
            if update.state in ("finished", "stopped"):
                # Stopped: another trial that shares this fit withdrew just now, or the dispatcher was killed. The fit
                # is queued again.
                del self.num_seen[spec.fit_id]
        return updates

    def _finished(self, fold: int, rows: Any) -> dict[str, Any]:
        update = self._update(fold, rows)
        del self.waiting[fold]
        return update | {"done": True}

    def _update(self, fold: int, rows: Any) -> dict[str, Any]:
        return {"fold": fold, "fit_id": self.waiting[fold].fit_id, "rows": list(rows), "done": False}
