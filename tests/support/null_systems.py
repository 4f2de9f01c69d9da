"""Systems whose true difference is known, scored on the same folds: what comparisons are tried on."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from case_datasets import dataset
from split_plans import five_fold

from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.selection.comparison import VALIDATION, ComparedSystem

IMAGE_SD = 0.08  # of what a system makes of an image, in Dice


@lru_cache
def plan_of(num_images: int) -> SplitPlan:
    """Five folds of single images, without a hold-out."""
    return five_fold([dataset([[0.1]] * num_images)], seed=0, holdout=0)


def systems(
    seed: int, number: int, *, noise: float, lead: float = 0.0, num_images: int = 900
) -> list[ComparedSystem]:
    """All equal, but for the last, which is `lead` better in Dice.

    Every system scores the same hard and easy images, each with some chance of its own; each training moves all scores
    of its fold by the same, with an SD of `noise`.
    """
    plan, rng = plan_of(num_images), np.random.default_rng([seed, number])
    difficulty = rng.beta(8, 2, num_images)
    fold_of = {id: fold.index for fold in plan.folds for id in fold.val}
    ids = sorted(fold_of)
    found = []
    for place in range(number):
        moved = rng.normal(0, noise, len(plan.folds))
        own = rng.normal(lead * (place == number - 1), IMAGE_SD, num_images)
        values = difficulty + own + moved[[fold_of[id] for id in ids]]
        scores = dict(zip(ids, values.tolist(), strict=True))
        means = tuple(float(np.mean([scores[id] for id in fold.val])) for fold in plan.folds)
        found.append(ComparedSystem(f"s{place}:0", plan, {VALIDATION: scores}, means, {id: id for id in ids}))
    return found
