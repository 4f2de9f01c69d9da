"""The tiny fit as the work of a study: the same training, and a record in the ledger with scores by formula."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tiny_fit
import torch
from formula import histograms, quality, row

from orchestrator.search.records.fit_records import ScoreRecord
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.score_job import ScoreJob
from orchestrator.training import workers
from orchestrator.training.recipe import FitSpec


@dataclass(frozen=True)
class TinyWork:
    """What a lane does in a study of tiny fits."""

    ledger: Ledger

    def __call__(
        self, job: FitSpec | ScoreJob, device: torch.device, loader_workers: int, report: tiny_fit.Report
    ) -> bool:
        if isinstance(job, ScoreJob):
            if workers.rank() == 0:
                scored = histograms(1.0, len(job.case_ids))
                self.ledger.write_scores(ScoreRecord(job.fit_id, job.name, job.case_ids, scored))
            return True
        found = quality(job.recipe.learning_rate)
        curves = list(self._train(found, report))
        if len(curves) < tiny_fit.EPOCHS:
            return False
        if workers.rank() == 0:
            plain = {
                "curves": curves,
                "best_epoch": tiny_fit.EPOCHS - 1,
                "seconds": sum(epoch["seconds"] for epoch in curves),
                "device": "cpu",
                "world_size": workers.size(),
                "case_ids": job.val,
                "versions": {},
            }
            self.ledger.write(job, plain, histograms(found, len(job.val)), {}, b"weights")
        return True

    def _train(self, found: float, report: tiny_fit.Report) -> Iterator[dict[str, float]]:
        for trained in tiny_fit.train():
            told = row(int(trained["epoch"]), found) | trained
            yield told
            if not report(told):
                return
