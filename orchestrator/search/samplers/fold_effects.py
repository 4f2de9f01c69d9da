"""Model of scores by fold: effects of folds (how much easier each fold is) and noise (how much fits differ).

Of trial t on fold f the model is y[t, f] = truth of t + effect of f + noise, with effects that are drawn from one
normal distribution, less their mean. All means over folds weigh a fold by its images, as the mean over images does, and
the noise of a fold has a variance that is the smaller the more images it has: a center of 60 images says less than one
of 600. A trial that was seen on fold 0 alone cannot be compared with one
that was seen on all before the effect of fold 0 is known. Trials that were given more folds were lucky on their first,
so differences within trials say too much of it; the likelihood of all scores together is not misled (Rubin, 1976). It
is that of the trials' means, which gaussian_process.py models, times that of the differences from them, modelled here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FoldEffects:
    """Effects in K directions, folds less one, of which differences within trials give independent estimates."""

    basis: Array  # (F, K), the mean of each column over folds is zero
    shares: Array  # (N, K), by how much each moves the mean of a trial
    weights: Array  # (K,), how well differences within trials determine them
    pulls: Array  # (K,), what these say of each, times its weight
    squares: float  # sum of the differences, squared, by the weights of folds
    degrees: int  # of their freedom

    @classmethod
    def of(cls, scores: Array, weights: Array | None = None) -> FoldEffects:
        """scores (N, F) of every trial on every fold, nan where it has none; weights (F,) of folds, 1 in the mean."""
        there, of_fold = np.isfinite(scores), np.ones(scores.shape[1]) if weights is None else weights
        counts = there.sum(axis=1)
        each = there * of_fold
        parts = each / np.where(counts > 0, each.sum(axis=1), 1.0)[:, None]
        apart = np.where(there, scores - _mean(scores, there, weights)[:, None], 0.0)
        several = each * (counts > 1)[:, None]
        share = of_fold / of_fold.sum()
        basis = linalg.helmert(scores.shape[1]).T if scores.shape[1] > 1 else np.zeros((scores.shape[1], 0))
        within = basis.T @ (np.diag(several.sum(axis=0)) - several.T @ parts) @ basis
        known, turn = np.linalg.eigh(within)
        basis = basis @ turn
        return cls(
            basis - share @ basis,
            (parts - (counts > 0)[:, None] * share) @ basis,
            np.maximum(known, 0.0),
            basis.T @ (apart * of_fold).sum(axis=0),
            float((apart**2 * of_fold).sum()),
            int(np.maximum(counts - 1, 0).sum()),
        )

    @classmethod
    def unknown(cls, num_trials: int) -> FoldEffects:
        """No information on the effects of folds: K = 0."""
        return cls(np.zeros((0, 0)), np.zeros((num_trials, 0)), np.zeros(0), np.zeros(0), 0.0, 0)

    def scaled(self, unit: float) -> FoldEffects:
        """The same effects in other units of Dice."""
        return replace(self, pulls=self.pulls / unit, squares=self.squares / unit**2)

    @property
    def count(self) -> int:
        """Number K of independent directions of fold effects."""
        return len(self.weights)

    def posterior(self, noise: float, spread: float) -> tuple[Array, Array]:
        """Mean and variance (K,) by differences within trials; noise, spread: variances of fits and of effects."""
        variance = 1 / (1 / spread + self.weights / noise)
        return variance * self.pulls / noise, variance

    def loss(self, noise: float, spread: float) -> tuple[float, float, float]:
        """Minus the log likelihood of differences within trials; its slopes by the logarithms of both variances."""
        mean, variance = self.posterior(noise, spread)
        explained = float((1 - variance / spread).sum())
        left = self.squares - float(self.pulls @ mean)
        log_det = float(np.log1p(spread * self.weights / noise).sum())
        value = 0.5 * (self.degrees * np.log(noise) + log_det + left / noise)
        squares = left - float(self.pulls @ mean) + float(self.weights @ mean**2)
        by_spread = explained - float(mean @ mean) / spread
        return float(value), 0.5 * (self.degrees - explained - squares / noise), 0.5 * by_spread


def over_all_folds(
    values: Array, by_fold: Array | None, effects: Array | None = None, weights: Array | None = None
) -> Array:
    """Values (N,), in place of which rows (N, F) of scores count where they have any, less effects (F,) of folds.

    weights (F,): of folds; None: all alike.
    """
    if by_fold is None:
        return values
    scores = by_fold if effects is None else by_fold - effects
    there = np.isfinite(scores)
    result: Array = np.where(there.any(axis=1), _mean(scores, there, weights), values)
    return result


def _mean(scores: Array, there: NDArray[np.bool_], weights: Array | None) -> Array:
    """The mean of each row (N, F), over what is there; 0 where nothing is."""
    each = there * (1.0 if weights is None else weights)
    result: Array = np.where(there, scores * each, 0.0).sum(axis=1) / np.where(
        there.any(axis=1), each.sum(axis=1), 1.0
    )
    return result
