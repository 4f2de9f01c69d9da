"""Intervals that treat images, or folds, as independent: what `cluster_interval` is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from orchestrator.scoring.statistics import cluster_interval


def image_interval(
    values: NDArray[np.floating], *, confidence: float = 0.95, seed: int = 0, num_resamples: int = 2000
) -> tuple[float, float]:
    """`cluster_interval` with every image as a group of its own: too narrow if images are correlated."""
    own = [str(number) for number in range(len(values))]
    return cluster_interval(values, own, confidence=confidence, seed=seed, num_resamples=num_resamples)


def fold_interval(fold_means: ArrayLike, *, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval over the means of K folds, the usual source of "mean ± std" in tables.

    It treats folds as independent, which they are not: for comparison with papers. (-inf, inf) for a single fold.
    """
    means = np.asarray(fold_means, np.float64)
    if len(means) == 1:
        return -np.inf, np.inf
    reach = stdtrit(len(means) - 1, (1 + confidence) / 2) * means.std(ddof=1) / np.sqrt(len(means))
    return float(means.mean() - reach), float(means.mean() + reach)
