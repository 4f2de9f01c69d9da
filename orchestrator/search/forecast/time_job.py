"""The job in which a lane times a few steps of configurations, and its file. Imports nothing of the search engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from orchestrator.common.errors import BadStudy, FitFailed
from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import read_json
from orchestrator.data.cache.frames import CachedCases
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.forecast.speed import Speed, measure
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.space import Configuration
from orchestrator.training.jobs import job_kind
from orchestrator.training.recipe import FitSpec


@job_kind
@dataclass(frozen=True)
class TimeJob:
    """Time the first configuration with all shares of its batch, the others with the largest; written as JSON."""

    file: Path
    configurations: tuple[Configuration, ...]
    plan: SplitPlan
    widths: tuple[int, ...]

    def __call__(
        self,
        cases_of: Callable[[FitSpec], CachedCases],
        device: torch.device,
        loader_workers: int,
    ) -> None:
        """Time each configuration; the error of one that cannot be trained is written in its place."""
        found: list[dict[str, object] | str] = []
        for configuration in self.configurations:
            shares = sorted(self._shares(configuration))
            shares = shares[-1:] if found else shares
            cases = cases_of(fold_specs(configuration, self.plan)[0])
            try:
                speed = measure(configuration, self.plan, cases, device, shares, loader_workers)
                found.append(asdict(speed))
            except FitFailed as failure:
                found.append(str(failure))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, json.dumps(found, indent=1).encode())

    @property
    def is_done(self) -> bool:
        """Whether the file has every share that these widths need; it may be from a run on fewer GPUs."""
        if not self.file.exists():
            return False
        first, *others = read_speeds(self.file)
        if len(others) != len(self.configurations) - 1:
            return False
        return isinstance(first, str) or self._shares(self.configurations[0]) <= first.training.keys()

    def _shares(self, configuration: Configuration) -> set[int]:
        return {configuration.recipe.batch_size // width for width in self.widths}


def read_speeds(file: Path) -> list[Speed | str]:
    """Speeds that a `TimeJob` measured, one a configuration, errors as text. `BadStudy`: damaged file."""
    remedy = "delete it: its contents are measured again"
    found: list[Speed | str] = read_json(file, list[Speed | str], remedy)
    if not found:
        raise BadStudy(str(file), f"holds no measurement; {remedy}")
    return found
