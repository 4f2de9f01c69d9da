"""Fits by formula of which the search shows one thing and a second scoring another: luck that does not last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from formula import FormulaJobRunner

from orchestrator.common.errors import FitFailed
from orchestrator.training.recipe import FitSpec

LUCKY, STEADY, POOR = 1e-3, 2e-3, 1e-2
SHOWN = {  # rate -> Dice in the search, and again
    LUCKY: (0.802, 0.70),
    STEADY: (0.80, 0.79),
    POOR: (0.40, 0.95),
    1e-4: (0.30, 0.95),
}
RATES = (1e-4, LUCKY, STEADY, POOR)  # of trials 0 to 3


def is_again(spec: FitSpec) -> bool:
    return spec.fold.startswith("again ")


@dataclass(frozen=True)
class LuckyWork(FormulaJobRunner):
    """Every image has noise of its own; what a configuration shows depends on whether it is scored again."""

    fails_again: float | None = None  # a rate that fails then

    def __call__(self, job, device, loader_workers, report) -> bool:
        if isinstance(job, FitSpec) and is_again(job) and job.recipe.learning_rate == self.fails_again:
            raise FitFailed("the loss became nan")
        return super().__call__(job, device, loader_workers, report)

    def found(self, spec: FitSpec, case_ids: Sequence[str]) -> np.ndarray:
        dice = SHOWN[spec.recipe.learning_rate][is_again(spec)]
        noise = np.random.default_rng(int(spec.fit_id, 16)).normal(0, 0.05, len(case_ids))
        return np.clip(
            dice / (2 - dice) + noise - noise.mean(), 0, 1
        )  # a share s of a polyp has Dice 2 s / (1 + s)
