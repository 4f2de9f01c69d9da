"""A trial's folds: the fits that it needs, and the score that follows from their records."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from orchestrator.data.splits import SplitPlan
from orchestrator.scoring.metrics import scores_at
from orchestrator.scoring.threshold import best_threshold, cross_fitted
from orchestrator.search.ledger import FitRecord
from orchestrator.search.space import Settings
from orchestrator.training.recipe import FitSpec


def fold_specs(settings: Settings, plan: SplitPlan) -> tuple[FitSpec, ...]:
    """The fits of a trial, one a fold."""
    return tuple(_spec(settings, plan, fold.train, fold.val, fold=str(fold.index)) for fold in plan.folds)


def refit_spec(settings: Settings, plan: SplitPlan, stop_after: int) -> FitSpec:
    """The fit of a champion: all cases but the hold-out, for so many epochs of the recipe's schedule."""
    everyone = sorted({case_id for fold in plan.folds for case_id in (*fold.train, *fold.val)})
    return _spec(settings, plan, tuple(everyone), (), fold="refit", stop_after=stop_after)


def _spec(
    settings: Settings,
    plan: SplitPlan,
    train: tuple[str, ...],
    val: tuple[str, ...],
    *,
    fold: str,
    stop_after: int | None = None,
) -> FitSpec:
    weights = settings.network_params.get("weights")
    return FitSpec(
        network=settings.network,
        network_params=settings.network_params,
        weights_sha256=_sha256(weights, Path(weights).stat().st_mtime_ns) if weights else None,
        recipe=settings.recipe,
        datasets=plan.datasets,
        train=train,
        val=val,
        fold=fold,
        stop_after=stop_after,
    )


@lru_cache
def _sha256(path: str, mtime_ns: int) -> str:
    """Digest of a file, read again when it changes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class TrialScore:
    """How a setting did on images that its networks were not trained on."""

    threshold: float  # multiple of 1/256
    metrics: dict[str, float]  # mean over all validation images, at the threshold
    cross_fitted: dict[
        str, float
    ]  # the same, each fold at the threshold chosen on the others: no optimism from it
    fold_metrics: tuple[dict[str, float], ...]  # mean over each fold's images, at the threshold
    case_ids: tuple[str, ...]
    dice_of_case: np.ndarray  # (N,) cross-fitted Dice of each image, in the order of `case_ids`

    @property
    def fold_dice(self) -> tuple[float, ...]:
        return tuple(fold["dice"] for fold in self.fold_metrics)

    @property
    def fold_dice_std(self) -> float:
        """Spread over folds; no standard error of the mean, for folds share their training cases."""
        return float(np.std(self.fold_dice, ddof=1))


def score_trial(records: Sequence[FitRecord], settings: Settings, metric: str = "dice") -> TrialScore:
    """Score a trial by the records of all its folds: pooled over all validation images, at one threshold.

    A swept threshold is the best for the mean of `metric`.
    """
    histograms = np.concatenate([record.histograms for record in records])
    fold_of_case = np.repeat(np.arange(len(records)), [len(record.case_ids) for record in records])
    if settings.threshold is None:
        threshold, _ = best_threshold(histograms, *settings.sweep, metric=metric)
        _, others = cross_fitted(histograms, fold_of_case, *settings.sweep, metric=metric)
    else:
        threshold = settings.threshold
        others = dict.fromkeys(range(len(records)), threshold)
    scores = scores_at(histograms, threshold)
    parts = [scores_at(record.histograms, others[fold]) for fold, record in enumerate(records)]
    honest = {name: np.concatenate([part[name] for part in parts]) for name in scores}
    return TrialScore(
        threshold=threshold,
        metrics=_means(scores),
        cross_fitted=_means(honest),
        fold_metrics=tuple(_means(scores_at(record.histograms, threshold)) for record in records),
        case_ids=tuple(case_id for record in records for case_id in record.case_ids),
        dice_of_case=honest["dice"],
    )


def _means(scores: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in scores.items()}
