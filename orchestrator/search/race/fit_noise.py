"""Variance between fits of one configuration, separated from that between configurations and between folds.

y[trial, fold] = fold + trial + residual, where trials are drawn from one population. Trials that did badly on their
first fold are not trained on others, so those with several folds were lucky on it, and their residuals alone are too
small. A likelihood over all trials, also those with one fold, is not biased by this selection (Rubin, 1976).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# Variance of trials over that of the residual. A priori it is about 3, and from 3 / 20 to 3 * 20 with 95 %.
_RATIOS = np.geomspace(0.03, 300, 25)
_LOG_PRIOR = -0.5 * (np.log(_RATIOS / 3) / 1.5) ** 2


def residual_variance(
    rows: Sequence[Mapping[int, float]], prior: float, weight: float
) -> tuple[float, float]:
    """Residual variance between fits of a configuration, and its degrees of freedom from the data.

    rows: fold -> score of every trial, of at least one fold each. prior: the variance assumed, with the weight of so
    many degrees of freedom. Restricted likelihood (Patterson and Thompson, 1971), averaged over the unknown ratio of
    the two variances. Where no two trials share two folds the data say nothing: (prior, 0).
    """
    folds = sorted({fold for row in rows for fold in row})
    degrees = sum(map(len, rows)) - len(rows) - len(folds) + 1
    if not rows or degrees <= 0:
        return prior, 0.0
    scores = np.array([[row.get(fold, np.nan) for fold in folds] for row in rows])
    there = np.isfinite(scores).astype(np.float64)
    scores = np.nan_to_num(scores - np.nanmean(scores))
    found = [_restricted(scores, there, ratio, prior, weight) for ratio in _RATIOS]
    chances, variances = np.array(found).T
    chances = np.exp(chances + _LOG_PRIOR - (chances + _LOG_PRIOR).max())
    return float(chances @ variances / chances.sum()), float(degrees)


def _restricted(
    scores: np.ndarray, there: np.ndarray, ratio: float, prior: float, weight: float
) -> tuple[float, float]:
    """Log posterior density of a ratio, and the residual variance given it."""
    counts = there.sum(axis=1)
    shrunk = ratio / (1 + counts * ratio)  # the inverse covariance of a trial is 1 - shrunk on its folds
    sums = scores.sum(axis=1)
    normal = np.diag(there.sum(axis=0)) - there.T @ (shrunk[:, None] * there)
    right = scores.sum(axis=0) - there.T @ (shrunk * sums)
    squares = (scores**2).sum() - shrunk @ sums**2 - right @ np.linalg.solve(normal, right)
    degrees = counts.sum() - len(normal) + weight
    total = max(0.0, float(squares)) + weight * prior
    density = degrees * np.log(total) + np.log1p(counts * ratio).sum() + np.linalg.slogdet(normal)[1]
    return -0.5 * float(density), total / float(degrees)
