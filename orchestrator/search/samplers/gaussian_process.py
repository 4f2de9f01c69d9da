"""A Gaussian process that knows on which folds every value rests: what a study expects of every configuration.

Points lie in a box (encoding.py); values are Dice. One seen on m folds has the noise variance s^2 / m, where a fold of
many images counts for more than one. s, a Matérn-5/2
kernel's length scales, its height and how much folds differ are those of highest posterior density. Where a
configuration was seen on few folds its neighbours speak for it. Configurations in flight count as seen with
the value that is expected of them. expected_gain.py says where to look next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
from scipy import linalg, optimize
from scipy.spatial.distance import cdist

from orchestrator.search.samplers.encoding import Array
from orchestrator.search.samplers.fold_effects import FoldEffects, over_all_folds

JITTER = 1e-6
TOLERANCE = 1e-4  # of the log posterior, relative: the fit of a kernel ends
LEAST = 30  # points, from which the kernel of the earlier ones is a better start than none


class Posterior(Protocol):
    """A model of what was seen, in Dice; its noise is the variance of a value seen on one fold, over unit^2."""

    @property
    def points(self) -> Array: ...  # (N, D)
    @property
    def tried(self) -> Array: ...  # (T, D), those whose values it left out too
    @property
    def unit(self) -> float: ...
    @property
    def noise(self) -> float: ...
    def mean(self, points: Array) -> Array: ...
    def predict(self, points: Array) -> tuple[Array, Array]: ...  # mean and SD
    def covariance(self, one: Array, other: Array) -> Array: ...  # of the truth at two sets of points


@dataclass(frozen=True)
class FitArguments:
    """Arguments of `GaussianProcess.fit` as bytes: a hashable key for caching fitted models."""

    dimensions: int
    points: bytes
    values: bytes
    folds: bytes
    by_fold: bytes
    weights: bytes

    @classmethod
    def of(
        cls, points: Array, values: Array, folds: Array, by_fold: Array | None, weights: Array | None = None
    ) -> FitArguments:
        scores, of_folds = (b"" if one is None else one.tobytes() for one in (by_fold, weights))
        return cls(points.shape[1], points.tobytes(), values.tobytes(), folds.tobytes(), scores, of_folds)

    def arrays(self) -> tuple[Array, Array, Array, Array | None, Array | None]:
        values = np.frombuffer(self.values)
        scores = np.frombuffer(self.by_fold).reshape(len(values), -1) if self.by_fold else None
        return (
            np.frombuffer(self.points).reshape(-1, self.dimensions),
            values,
            np.frombuffer(self.folds),
            scores,
            np.frombuffer(self.weights) if self.weights else None,
        )


@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process fitted to points with values; values are kept standardised."""

    points: Array  # (N, D)
    center: float
    unit: float
    lengths: Array  # (D,)
    height: float  # variance of the kernel
    noise: float  # variance of a value seen on one fold
    effects: Array  # (F,), by how many Dice folds are expected to be easier (fold_effects.py)
    factor: Array  # Cholesky factor of the covariance of what was seen, (N, N)
    weights: Array  # (N,)
    fold_weights: Array | None = None  # (F,), as it was fitted

    @classmethod
    def fit(
        cls,
        points: Array,
        values: Array,
        folds: Array,
        by_fold: Array | None = None,
        fold_weights: Array | None = None,
    ) -> GaussianProcess:
        """points (N, D), values (N,), folds (N,) that each value rests on; N at least 2.

        by_fold (N, F): the score of each on each fold, nan where it has none; a row of scores counts in place of its
        value. fold_weights (F,): how many times as many images each has as folds have in the mean; None: as many.
        """
        seen = points, values, folds, by_fold, fold_weights
        evidence, center, unit = _Evidence.of(*seen)
        kernel = _unpack(_likely(evidence, *seen), points.shape[1])
        effects = evidence.effects
        mean, variance = effects.posterior(kernel.noise, kernel.spread)
        factor = evidence.factor(kernel, variance)
        weights = linalg.cho_solve((factor, True), evidence.values - effects.shares @ mean)
        expected = effects.basis @ (mean + variance * (effects.shares.T @ weights))
        found = (kernel.lengths, kernel.height, kernel.noise, unit * expected)
        return cls(points, center, unit, *found, factor, weights, fold_weights)

    @property
    def tried(self) -> Array:
        """Points (N, D) that the model was fitted to."""
        return self.points

    def mean(self, points: Array) -> Array:
        """Mean (M,) of the truth at points (M, D), in units of Dice: that of `predict`, which takes N times as long."""
        result: Array = self.center + self.unit * (self._cross(points) @ self.weights)
        return result

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and SD (M,) of the truth at points (M, D), in units of Dice."""
        cross = self._cross(points)
        mean = cross @ self.weights
        explained = linalg.solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        variance = np.maximum(self.height - np.einsum("ij,ij->j", explained, explained), 1e-12)
        return self.center + self.unit * mean, self.unit * np.sqrt(variance)

    def _cross(self, points: Array) -> Array:
        """Covariance of points (M, D) with what was seen, of standardised values: (M, N)."""
        return matern(cdist(points / self.lengths, self.points / self.lengths), self.height)

    def covariance(self, one: Array, other: Array) -> Array:
        """Covariance of the truth at points (M, D) and (L, D), in Dice^2: (M, L)."""
        scaled, seen = (one / self.lengths, other / self.lengths), self.points / self.lengths
        crosses = [matern(cdist(seen, points), self.height) for points in scaled]
        first, second = (
            linalg.solve_triangular(self.factor, cross, lower=True, check_finite=False) for cross in crosses
        )
        result: Array = self.unit**2 * (matern(cdist(*scaled), self.height) - first.T @ second)
        return result

    def over_all_folds(self, values: Array, by_fold: Array | None) -> Array:
        """Values (N,), or what scores (N, F) by fold would be in the mean over all folds."""
        return over_all_folds(values, by_fold, self.effects, self.fold_weights)

    def seeing(self, more: Array) -> GaussianProcess:
        """The model with further points (F, D), each as if seen on one fold with its expected value."""
        one, other = self.points / self.lengths, more / self.lengths
        cross = linalg.solve_triangular(self.factor, matern(cdist(one, other), self.height), lower=True)
        own = matern(cdist(other, other), self.height) + (self.noise + JITTER) * np.eye(len(more))
        corner = linalg.cholesky(own - cross.T @ cross, lower=True)
        factor = np.block([[self.factor, np.zeros((len(one), len(more)))], [cross.T, corner]])
        weights = np.concatenate([self.weights, np.zeros(len(more))])  # what is expected changes no mean
        return replace(self, points=np.concatenate([self.points, more]), factor=factor, weights=weights)


@dataclass(frozen=True)
class _Kernel:
    """Hyperparameters of the kernel: length scales, and variances in units of the variance of the values."""

    lengths: Array  # (D,)
    height: float
    noise: float  # of a value seen on one fold
    spread: float  # of effects of folds


@dataclass(frozen=True)
class _Evidence:
    """Points with standardised values, and the likelihood of a kernel given these."""

    points: Array  # (N, D)
    values: Array  # (N,)
    folds: Array  # (N,)
    effects: FoldEffects

    @classmethod
    def of(
        cls,
        points: Array,
        values: Array,
        folds: Array,
        by_fold: Array | None,
        fold_weights: Array | None = None,
    ) -> tuple[_Evidence, float, float]:
        """Evidence from the arguments of `GaussianProcess.fit`; then center and unit of the values."""
        values = over_all_folds(values, by_fold, weights=fold_weights)
        center, unit = float(np.median(values)), float(values.std() + 1e-9)
        effects = (
            FoldEffects.unknown(len(values))
            if by_fold is None
            else FoldEffects.of(by_fold, fold_weights).scaled(unit)
        )
        return cls(points, (values - center) / unit, folds, effects), center, unit

    def factor(self, kernel: _Kernel, variance: Array) -> Array:
        """Cholesky factor of the covariance of the values; variance (K,) of the effects of folds."""
        scaled = self.points / kernel.lengths
        return self._factor(matern(cdist(scaled, scaled), kernel.height), kernel, variance)

    def _factor(self, covariance: Array, kernel: _Kernel, variance: Array) -> Array:
        shares = self.effects.shares
        total = covariance + (shares * variance) @ shares.T
        total[np.diag_indices(len(total))] += kernel.noise / self.folds + JITTER
        result: Array = linalg.cholesky(total, lower=True, overwrite_a=True, check_finite=False)
        return result

    def loss(self, theta: Array) -> tuple[float, Array]:
        """Negative log posterior of the kernel's logarithms, and its gradient."""
        kernel, effects = _unpack(theta, self.points.shape[1]), self.effects
        mean, variance = effects.posterior(kernel.noise, kernel.spread)
        scaled = self.points / kernel.lengths
        distance = np.sqrt(5) * cdist(scaled, scaled)
        decay = kernel.height * np.exp(-distance)
        covariance = (1 + distance + distance**2 / 3) * decay
        factor = self._factor(covariance, kernel, variance)
        inverse = _inverse(factor)
        left = self.values - effects.shares @ mean
        weights = inverse @ left
        inner = np.outer(weights, weights) - inverse
        slope = inner * (1 + distance) * decay  # times -5/6, by the scaled squared distance
        by_length = (10 / 3) * (slope.sum(axis=1) @ scaled**2 - np.einsum("ij,ij->j", scaled, slope @ scaled))
        by_noise = (np.diag(inner) / self.folds).sum() * kernel.noise
        gradient = -0.5 * np.array([*by_length, np.vdot(inner, covariance), by_noise])
        value = 0.5 * float(weights @ left) + float(np.log(np.diag(factor)).sum())
        if effects.count:
            pulled = weights @ effects.shares
            seen = np.einsum("nk,nk->k", effects.shares, inner @ effects.shares)
            apart, of_noise, of_spread = effects.loss(kernel.noise, kernel.spread)
            lost = variance * effects.weights / kernel.noise  # of the variance, where fits differ more
            gradient[-1] += of_noise - 0.5 * seen @ (lost * variance) - pulled @ ((lost - 1) * mean)
            more = variance / kernel.spread
            by_spread = of_spread - 0.5 * seen @ (more * variance) - pulled @ (more * mean)
            value, gradient = value + apart, np.append(gradient, by_spread)
        center, width = _prior(self.points.shape[1], len(theta))
        away = (theta - center) / width
        return value + 0.5 * float(away @ away), gradient + away / width


def _likely(
    evidence: _Evidence,
    points: Array,
    values: Array,
    folds: Array,
    by_fold: Array | None,
    fold_weights: Array | None,
) -> Array:
    """Logarithms of the kernel's hyperparameters of highest posterior density.

    They are looked for from those of the first two thirds of the points, which are known where the same were seen
    before.
    """
    first, _ = _prior(points.shape[1], points.shape[1] + 2 + (evidence.effects.count > 0))
    if len(points) >= LEAST:
        early = 2 * len(points) // 3
        early -= early % max(1, early // 8)
        scores = None if by_fold is None else by_fold[:early]
        start = _likely_of(
            FitArguments.of(points[:early], values[:early], folds[:early], scores, fold_weights)
        )
        first[: len(start)] = start
    found = optimize.minimize(
        evidence.loss,
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-6, 6)] * len(first),
        options={"maxiter": 30, "ftol": TOLERANCE},
    )
    result: Array = found.x
    return result


@lru_cache(maxsize=32)
def _likely_of(seen: FitArguments) -> Array:
    return _likely(_Evidence.of(*seen.arrays())[0], *seen.arrays())


def _prior(dimensions: int, count: int) -> tuple[Array, Array]:
    """Middle and SD of the logarithms: of length scales, height, noise, and, where folds are known, their effects."""
    rest = [0.0, np.log(0.05), np.log(0.05)][: count - dimensions]
    center = np.array([*np.full(dimensions, np.log(0.5 * np.sqrt(dimensions))), *rest])
    return center, np.array([*np.full(dimensions, 0.8), *np.full(len(rest), 1.5)])


def _unpack(theta: Array, dimensions: int) -> _Kernel:
    lengths, (height, noise, *spread) = np.exp(theta[:dimensions]), np.exp(theta[dimensions:])
    return _Kernel(lengths, float(height), float(noise), float(spread[0]) if spread else 1.0)


def _inverse(factor: Array) -> Array:
    """The inverse of a matrix, from its Cholesky factor (N, N)."""
    half, _ = linalg.lapack.dpotri(factor, lower=True)
    result: Array = np.tril(half) + np.tril(half, -1).T
    return result


def matern(distances: Array, height: float) -> Array:
    """Matérn-5/2 of distances in length scales, of any shape."""
    distance = np.sqrt(5) * distances
    result: Array = height * (1 + distance + distance**2 / 3) * np.exp(-distance)
    return result
