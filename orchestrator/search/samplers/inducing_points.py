"""The Gaussian process of gaussian_process.py for many configurations: its cost hardly grows with them.

Up to `EXACT` configurations it is fitted as it is. Beyond, three things are bounded, all by what was tried and none by
how it scored, for a model of the highest scores alone takes luck for truth:

kernel      the length scales, height, noise and effects of folds of highest posterior density of `SUBSET`
            configurations, evenly spaced in the order in which they were begun among the first so many, a number that
            grows in steps of a tenth: the same evidence gives the same kernel, in a study that was interrupted too, and
            most decisions find it known
posterior   all values speak through `SUBSET` + `LEADERS` inducing points: these configurations, and others where the
            model of them expects the most (the fully independent training conditional of Snelling and Ghahramani, 2006)
values      of more than `MOST` configurations, those nearest to the leader, and of the others evenly spaced ones
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.spatial.distance import cdist

from orchestrator.search.samplers.encoding import Array
from orchestrator.search.samplers.fold_effects import over_all_folds
from orchestrator.search.samplers.gaussian_process import (
    JITTER,
    FitArguments,
    GaussianProcess,
    matern,
)

EXACT = 400  # configurations up to which nothing is approximated
SUBSET, LEADERS = 400, 150
MOST = 6000
STEP = 1.1  # the subset is drawn again when there are so many times more
ROWS = 4096  # points in a piece of a matrix: bounds memory


@dataclass(frozen=True)
class SparseGaussianProcess:
    """A Gaussian process with inducing points, fitted to many values; replaces `GaussianProcess`."""

    points: Array  # (N, D) whose values were seen
    tried: Array  # (T, D), those left out too
    center: float
    unit: float
    lengths: Array  # (D,)
    height: float  # variance of the kernel
    noise: float  # variance of a value seen on one fold
    effects: Array  # (F,), by how many Dice folds are expected to be easier
    inducing: Array  # (M, D)
    prior_factor: Array  # Cholesky factor of the covariance of the inducing points, (M, M)
    factor: Array  # Cholesky factor of what the values add to it, (M, M)
    weights: Array  # (M,)
    fold_weights: Array | None  # (F,), as it was fitted

    @classmethod
    def fit(
        cls,
        points: Array,
        values: Array,
        folds: Array,
        by_fold: Array | None = None,
        fold_weights: Array | None = None,
    ) -> SparseGaussianProcess:
        """points (N, D), values (N,), folds (N,) that each value rests on, the others as in `GaussianProcess`."""
        rough = _rough(points, values, folds, by_fold, fold_weights)
        values = rough.over_all_folds(values, by_fold)
        leaders = _best_by(rough, points)
        kept = _kept(points, leaders[0], rough.lengths)
        inducing = np.unique(np.concatenate([rough.points, points[leaders]]), axis=0)
        return _posterior(rough, inducing, points[kept], values[kept], folds[kept], points)

    def covariance(self, one: Array, other: Array) -> Array:
        """Covariance of the truth at points (M, D) and (L, D), in Dice^2: (M, L)."""
        (first, _), (second, _) = (
            _project(self, self.inducing, self.prior_factor, points) for points in (one, other)
        )
        of_prior, of_values = (
            linalg.solve_triangular(self.factor, part, lower=True) for part in (first, second)
        )
        result: Array = self.unit**2 * (
            _covariance(self, one, other) - first.T @ second + of_prior.T @ of_values
        )
        return result

    def over_all_folds(self, values: Array, by_fold: Array | None) -> Array:
        """Values (N,) over all folds, as in `GaussianProcess.over_all_folds`."""
        return over_all_folds(values, by_fold, self.effects, self.fold_weights)

    def seeing(self, more: Array) -> SparseGaussianProcess:
        """The model with further points (F, D), each as if seen on one fold with its expected value."""
        prior, left = _project(self, self.inducing, self.prior_factor, more)
        weighted = prior / (left + self.noise + JITTER)
        expected = (self.mean(more) - self.center) / self.unit
        inner = self.factor @ self.factor.T + weighted @ prior.T
        right = self.factor @ self.weights + weighted @ expected
        factor = linalg.cholesky(inner, lower=True)
        return replace(
            self,
            points=np.concatenate([self.points, more]),
            tried=np.concatenate([self.tried, more]),
            factor=factor,
            weights=linalg.solve_triangular(factor, right, lower=True),
        )

    @cached_property
    def _weights_of_inducing(self) -> Array:
        """Weights (M,) of the inducing points: standardised mean = covariance with them @ weights."""
        inner = linalg.solve_triangular(self.factor, self.weights, lower=True, trans=1)
        result: Array = linalg.solve_triangular(self.prior_factor, inner, lower=True, trans=1)
        return result

    def mean(self, points: Array) -> Array:
        """Mean (M,) of the truth at points (M, D), in units of Dice: that of `predict`, in a fraction of its time."""
        parts = [
            _covariance(self, points[rows], self.inducing) @ self._weights_of_inducing
            for rows in _pieces(len(points))
        ]
        result: Array = self.center + self.unit * np.concatenate(parts)
        return result

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and SD (M,) of the truth at points (M, D), in units of Dice."""
        mean, variance = np.empty(len(points)), np.empty(len(points))
        for rows in _pieces(len(points)):
            prior, _ = _project(self, self.inducing, self.prior_factor, points[rows])
            posterior = linalg.solve_triangular(self.factor, prior, lower=True)
            mean[rows] = posterior.T @ self.weights
            variance[rows] = self.height - (prior**2).sum(axis=0) + (posterior**2).sum(axis=0)
        return self.center + self.unit * mean, self.unit * np.sqrt(np.maximum(variance, 1e-12))


Model = GaussianProcess | SparseGaussianProcess


def fitted(
    points: Array,
    values: Array,
    folds: Array,
    by_fold: Array | None = None,
    fold_weights: Array | None = None,
) -> Model:
    """The model of points (N, D), values (N,) and folds (N,); kept, as race and sampler need the same one.

    by_fold (N, F): scores on every fold, fold_weights (F,): of folds, as in `GaussianProcess.fit`.
    """
    return _fitted(FitArguments.of(points, values, folds, by_fold, fold_weights))


@lru_cache(maxsize=4)
def _fitted(seen: FitArguments) -> Model:
    kind = GaussianProcess if len(seen.values) // 8 <= EXACT else SparseGaussianProcess
    return kind.fit(*seen.arrays())


def _rough(
    points: Array, values: Array, folds: Array, by_fold: Array | None, fold_weights: Array | None
) -> GaussianProcess:
    """The model of the subset: it knows the kernel."""
    steps = np.floor(np.log(len(points) / EXACT) / np.log(STEP) + 1e-9)
    first = min(len(points), int(EXACT * STEP**steps))
    chosen = np.linspace(0, first - 1, SUBSET).astype(int)
    scores = None if by_fold is None else by_fold[chosen]
    return _exact(FitArguments.of(points[chosen], values[chosen], folds[chosen], scores, fold_weights))


@lru_cache(maxsize=4)
def _exact(seen: FitArguments) -> GaussianProcess:
    return GaussianProcess.fit(*seen.arrays())


def _best_by(rough: GaussianProcess, points: Array) -> NDArray[np.intp]:
    """Places (LEADERS,) of the points (N, D) of highest expected value, the best first."""
    means = np.concatenate([rough.mean(points[rows]) for rows in _pieces(len(points))])
    return np.argsort(-means, kind="stable")[:LEADERS]


def _kept(points: Array, leader: int, lengths: Array) -> NDArray[np.intp]:
    """Sorted indices of the values in use: all, or the nearest to point `leader` and some of the others."""
    if len(points) <= MOST:
        return np.arange(len(points))
    order = np.argsort(np.abs((points - points[leader]) / lengths).sum(axis=1), kind="stable")
    near, far = order[: MOST // 2], np.sort(order[MOST // 2 :])
    return np.sort(np.concatenate([near, far[np.linspace(0, len(far) - 1, MOST - len(near)).astype(int)]]))


def _posterior(
    kernel: Model, inducing: Array, points: Array, values: Array, folds: Array, tried: Array
) -> SparseGaussianProcess:
    """The sparse model of these values, with the hyperparameters and units of the model `kernel`."""
    standard = (values - kernel.center) / kernel.unit
    own = _covariance(kernel, inducing, inducing)
    prior_factor = linalg.cholesky(own + JITTER * kernel.height * np.eye(len(inducing)), lower=True)
    inner, right = np.eye(len(inducing)), np.zeros(len(inducing))
    for rows in _pieces(len(points)):
        prior, left = _project(kernel, inducing, prior_factor, points[rows])
        weighted = prior / (left + kernel.noise / folds[rows] + JITTER)
        inner += weighted @ prior.T
        right += weighted @ standard[rows]
    factor = linalg.cholesky(inner, lower=True)
    weights = linalg.solve_triangular(factor, right, lower=True)
    found = (kernel.center, kernel.unit, kernel.lengths, kernel.height, kernel.noise, kernel.effects)
    parts = inducing, prior_factor, factor, weights
    return SparseGaussianProcess(points, tried, *found, *parts, kernel.fold_weights)


def _project(kernel: Model, inducing: Array, prior_factor: Array, points: Array) -> tuple[Array, Array]:
    """Points (N, D) in the basis of the inducing points (M, N), and the variance (N,) that they do not explain."""
    prior = linalg.solve_triangular(prior_factor, _covariance(kernel, inducing, points), lower=True)
    return prior, np.maximum(kernel.height - (prior**2).sum(axis=0), 0.0)


def _covariance(kernel: Model, one: Array, other: Array) -> Array:
    """Prior covariance of standardised values at points (N, D) and (M, D): (N, M)."""
    return matern(cdist(one / kernel.lengths, other / kernel.lengths), kernel.height)


def _pieces(count: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, count, ROWS))
