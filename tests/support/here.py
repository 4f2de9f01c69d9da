"""What lanes do, in this process: for tests of whatever hands jobs to lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from orchestrator.training.ray.dispatcher import JobUpdate

CPU = torch.device("cpu")
OnUpdate = Callable[[str, JobUpdate], None]


class Here:
    """Performs jobs one after another, and counts them."""

    def __init__(self, work: Any, fails: str = "") -> None:
        self.work, self.fails = work, fails
        self.performed: list[str] = []

    @contextmanager
    def __call__(self) -> Iterator[Here]:
        yield self

    def run_all(
        self, jobs: Mapping[str, Any], on_update: OnUpdate = lambda job_id, update: None
    ) -> dict[str, str]:
        errors = {}
        for job_id, job in jobs.items():
            self.performed.append(job_id)
            if self.fails and getattr(job, "network", "") == self.fails:
                errors[job_id] = "Traceback\nFitFailed: the loss became nan"
                on_update(job_id, JobUpdate("failed", (), errors[job_id]))
                continue
            self.work(job, CPU, 0, lambda row, job_id=job_id: self._told(job_id, row, on_update))
            on_update(job_id, JobUpdate("finished", (), None))
        return errors

    def _told(self, job_id: str, row: dict[str, float], on_update: OnUpdate) -> bool:
        on_update(job_id, JobUpdate("running", (row,), None))
        return True
