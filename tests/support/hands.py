"""What lanes do with jobs, one after another in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from orchestrator.common.errors import FitFailed
from orchestrator.training.ray.dispatcher import JobUpdate
from orchestrator.training.ray.lane_worker import Perform


@dataclass
class Hands:
    """Lanes without Ray; remembers the jobs that it was given."""

    work: Perform
    given: list[str] = field(default_factory=list)

    def run(self, job_id: str, payload: Any) -> None:
        self.given.append(job_id)
        self.work(payload, torch.device("cpu"), 0, lambda row: True)

    def run_all(
        self,
        jobs: Mapping[str, Any],
        on_update: Callable[[str, JobUpdate], None] = lambda job_id, news: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> dict[str, str]:
        failed = {}
        for job_id, payload in jobs.items():
            if is_over():
                break
            try:
                self.run(job_id, payload)
                on_update(job_id, JobUpdate("finished", (), None))
            except FitFailed as failure:
                failed[job_id] = str(failure)
        return failed
