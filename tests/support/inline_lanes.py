"""Lanes without Ray: jobs are performed one after another in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from orchestrator.common.errors import FitFailed
from orchestrator.training.ray.dispatcher import JobUpdate
from orchestrator.training.ray.lane_worker import Perform

CPU = torch.device("cpu")
OnUpdate = Callable[[str, JobUpdate], None]


@dataclass
class InlineLanes:
    """Remembers the names of the jobs that it was given; called, it is the context of lanes that are started."""

    work: Perform
    fails: str = ""  # a network whose fits fail
    performed: list[str] = field(default_factory=list)

    @contextmanager
    def __call__(self) -> Iterator[Self]:
        yield self

    def run(self, job_id: str, payload: Any) -> None:
        self._perform(job_id, payload, lambda job_id, update: None)

    def run_all(
        self,
        jobs: Mapping[str, Any],
        on_update: OnUpdate = lambda job_id, update: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> dict[str, str]:
        failed = {}
        for job_id, payload in jobs.items():
            if is_over():
                break
            try:
                self._perform(job_id, payload, on_update)
                on_update(job_id, JobUpdate("finished", (), None))
            except FitFailed as failure:
                failed[job_id] = str(failure)
                on_update(job_id, JobUpdate("failed", (), failed[job_id]))
        return failed

    def _perform(self, job_id: str, payload: Any, on_update: OnUpdate) -> None:
        def report(row: dict[str, float]) -> bool:
            on_update(job_id, JobUpdate("running", (row,), None))
            return True

        self.performed.append(job_id)
        if self.fails and getattr(payload, "network", "") == self.fails:
            raise FitFailed("Traceback\nFitFailed: the loss became nan")
        self.work(payload, CPU, 0, report)
