"""What folds say beside the means of trials: how much each is easier than the others, and how much fits differ.

Of trial t on fold f the model is y[t, f] = truth of t + effect of f + noise, with effects that are drawn from one
normal distribution and sum to zero over all folds. A trial that was seen on fold 0 alone cannot be compared with one
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
    """Effects in K directions, folds less one, in which differences within trials tell them independently."""

    basis: Array  # (F, K), orthonormal, the columns sum to zero
    shares: Array  # (N, K), by how much each moves the mean of a trial
    weights: Array  # (K,), how well differences within trials tell them
    pulls: Array  # (K,), what these tell
    squares: float  # sum of the differences, squared
    degrees: int  # of their freedom

    @classmethod
    def of(cls, scores: Array) -> FoldEffects:
        """scores (N, F) of every trial on every fold, nan where it has none."""
        there = np.isfinite(scores)
        counts = there.sum(axis=1)
        parts = there / np.maximum(counts, 1)[:, None]
        apart = np.where(there, scores - _mean(scores, there)[:, None], 0.0)
        several = (there & (counts > 1)[:, None]).astype(np.float64)
        basis = linalg.helmert(scores.shape[1]).T if scores.shape[1] > 1 else np.zeros((scores.shape[1], 0))
        within = basis.T @ (np.diag(several.sum(axis=0)) - several.T @ parts) @ basis
        weights, turn = np.linalg.eigh(within)
        basis = basis @ turn
        return cls(
            basis,
            (parts - (counts > 0)[:, None] / scores.shape[1]) @ basis,
            np.maximum(weights, 0.0),
            basis.T @ apart.sum(axis=0),
            float((apart**2).sum()),
            int(np.maximum(counts - 1, 0).sum()),
        )

    @classmethod
    def unknown(cls, num_trials: int) -> FoldEffects:
        """Where nothing is known of folds."""
        return cls(np.zeros((0, 0)), np.zeros((num_trials, 0)), np.zeros(0), np.zeros(0), 0.0, 0)

    def scaled(self, unit: float) -> FoldEffects:
        """In other units of Dice."""
        return replace(self, pulls=self.pulls / unit, squares=self.squares / unit**2)

    @property
    def count(self) -> int:
        """K."""
        return len(self.weights)

    def posterior(self, noise: float, spread: float) -> tuple[Array, Array]:
        """Mean and variance (K,) by differences within trials; noise, spread: variances of fits and of effects."""
        variance = 1 / (1 / spread + self.weights / noise)
        return variance * self.pulls / noise, variance

    def loss(self, noise: float, spread: float) -> tuple[float, float, float]:
        """Minus the log likelihood of differences within trials; its slopes by the logarithms of both variances."""
        mean, variance = self.posterior(noise, spread)
        told = float((1 - variance / spread).sum())
        left = self.squares - float(self.pulls @ mean)
        log_det = float(np.log1p(spread * self.weights / noise).sum())
        value = 0.5 * (self.degrees * np.log(noise) + log_det + left / noise)
        squares = left - float(self.pulls @ mean) + float(self.weights @ mean**2)
        by_spread = told - float(mean @ mean) / spread
        return float(value), 0.5 * (self.degrees - told - squares / noise), 0.5 * by_spread


def over_all_folds(values: Array, by_fold: Array | None, effects: Array | None = None) -> Array:
    """Values (N,), in place of which rows (N, F) of scores count where they have any, less effects (F,) of folds."""
    if by_fold is None:
        return values
    scores = by_fold if effects is None else by_fold - effects
    there = np.isfinite(scores)
    result: Array = np.where(there.any(axis=1), _mean(scores, there), values)
    return result


def _mean(scores: Array, there: NDArray[np.bool_]) -> Array:
    """Of each row (N, F), over what is there; 0 where nothing is."""
    result: Array = np.where(there, scores, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return result
