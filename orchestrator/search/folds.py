"""A trial's folds: the fits that it needs, and the score that follows from their records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.data.splits import SplitPlan
from orchestrator.scoring.metrics import scores_at
from orchestrator.scoring.threshold import best_threshold, cross_fitted
from orchestrator.search.ledger import FitRecord
from orchestrator.search.space import Settings
from orchestrator.training.recipe import FitSpec


def fold_specs(settings: Settings, plan: SplitPlan) -> tuple[FitSpec, ...]:
    """The fits of a trial, one a fold."""
    return tuple(
        FitSpec(
            network=settings.network,
            network_params=settings.network_params,
            recipe=settings.recipe,
            datasets=plan.datasets,
            train=fold.train,
            val=fold.val,
            fold=str(fold.index),
        )
        for fold in plan.folds
    )


@dataclass(frozen=True)
class TrialScore:
    """How a setting did on images that its networks were not trained on."""

    threshold: float  # multiple of 1/256
    metrics: dict[str, float]  # mean over all validation images, at the threshold
    dice_cross_fitted: (
        float  # each fold at the threshold chosen on the other folds: free of that choice's optimism
    )
    fold_dice: tuple[float, ...]  # mean Dice of each fold at the threshold
    case_ids: tuple[str, ...]
    dice_of_case: np.ndarray  # (N,) cross-fitted Dice of each image, in the order of `case_ids`


def score_trial(records: Sequence[FitRecord], settings: Settings, metric: str = "dice") -> TrialScore:
    """Score a trial by the records of all its folds: pooled over all validation images, at one threshold."""
    histograms = np.concatenate([record.histograms for record in records])
    fold_of_case = np.repeat(np.arange(len(records)), [len(record.case_ids) for record in records])
    if settings.threshold is None:
        threshold, _ = best_threshold(histograms, *settings.sweep, metric=metric)
        honest, _ = cross_fitted(histograms, fold_of_case, *settings.sweep, metric=metric)
        honest = honest if metric == "dice" else scores_at(histograms, threshold)["dice"]
    else:
        threshold = settings.threshold
        honest = scores_at(histograms, threshold)["dice"]
    scores = scores_at(histograms, threshold)
    return TrialScore(
        threshold=threshold,
        metrics={name: float(values.mean()) for name, values in scores.items()},
        dice_cross_fitted=float(honest.mean()),
        fold_dice=tuple(float(scores["dice"][fold_of_case == fold].mean()) for fold in range(len(records))),
        case_ids=tuple(case_id for record in records for case_id in record.case_ids),
        dice_of_case=honest,
    )
