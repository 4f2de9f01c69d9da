"""Jobs of a table as a lane performs them: train a fit, or score a network on a set of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

from orchestrator.protocols.set_scores import SetScoreJob, score
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.store.study_folder import hold
from orchestrator.training import workers
from orchestrator.training.fit import Report
from orchestrator.training.recipe import FitSpec


@dataclass(frozen=True)
class Places:
    """Folder where tables keep fits and scores; one for all tables, so that shared fits are made once."""

    home: Path
    cache: Path

    @property
    def folder(self) -> Path:
        return self.home / "reproduced"

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder)

    def lock(self) -> FileLock:
        """Hold the folder for one process. Raises `BadStudy` if another one has it; dies with its process."""
        return hold(self.folder, str(self.folder), "another `orchestrator reproduce` works there")

    @property
    def set_scores(self) -> Path:
        return self.folder / "set_scores"


@dataclass(frozen=True)
class TableWork:
    """Performs the jobs of tables; the same in a lane and in a plain process."""

    places: Places

    def __call__(
        self, job: FitSpec | SetScoreJob, device: torch.device, loader_workers: int, report: Report
    ) -> bool:
        """Return True when the job is on record, False when `report` stopped it."""
        if isinstance(job, SetScoreJob):
            if workers.rank() == 0:
                score(job, self.places.home, self.places.set_scores, device)
            return True
        runner = FitJobRunner(self.places.home, self.places.cache, self.places.ledger)
        return runner(job, device, loader_workers, report)
