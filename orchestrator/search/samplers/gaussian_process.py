"""A Gaussian process that knows how many folds every value rests on, and asks where improvement is expected.

Points lie in a box (encoding.py); values are Dice. One seen on m folds has the noise variance s^2 / m; s, a Matérn-5/2
kernel's length scales and its height are those of highest posterior density. Where a configuration was seen on few
folds its neighbours speak for it: `means` is what the study believes of every configuration, `suggest` maximises
expected improvement over the best of them (Jones, Schonlau and Welch, 1998). Configurations in flight count as seen at
what is believed of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import linalg, optimize, special
from scipy.spatial import cKDTree

from orchestrator.search.samplers.encoding import Array, SpaceEncoding

JITTER = 1e-6
_REDRAWN = 0.2  # share of coordinates near the leader that may be anything: a choice has no neighbourhood
_APART = 0.01  # nearer in every coordinate to a configuration that was tried there is nothing to learn


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
    def predict(self, points: Array) -> tuple[Array, Array]: ...  # mean and SD


@dataclass(frozen=True)
class GaussianProcess:
    """Fitted to what was seen; values are kept standardised."""

    points: Array  # (N, D)
    center: float
    unit: float
    lengths: Array  # (D,)
    height: float  # variance of the kernel
    noise: float  # variance of a value seen on one fold
    factor: Array  # Cholesky factor of the covariance of what was seen, (N, N)
    weights: Array  # (N,)

    @classmethod
    def fit(cls, points: Array, values: Array, folds: Array, start: Array | None = None) -> GaussianProcess:
        """points (N, D), values (N,), folds (N,) that each value rests on; N at least 2."""
        center, unit = float(np.median(values)), float(values.std() + 1e-9)
        standard = (values - center) / unit
        squares = (points[:, None, :] - points[None, :, :]) ** 2
        first = _first_guess(points.shape[1]) if start is None else start
        found = optimize.minimize(
            _loss,
            first,
            args=(squares, standard, folds),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-6, 6)] * len(first),
            options={"maxiter": 30},
        )
        lengths, height, noise = _unpack(found.x)
        covariance = _kernel(squares, lengths, height)[0] + np.diag(noise / folds + JITTER)
        factor = linalg.cholesky(covariance, lower=True)
        weights = linalg.cho_solve((factor, True), standard)
        return cls(points, center, unit, lengths, height, noise, factor, weights)

    @property
    def tried(self) -> Array:
        """(N, D)."""
        return self.points

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and SD (M,) of the truth at points (M, D), in units of Dice."""
        squares = (points[:, None, :] - self.points[None, :, :]) ** 2
        cross = _kernel(squares, self.lengths, self.height)[0]
        mean = cross @ self.weights
        explained = linalg.solve_triangular(self.factor, cross.T, lower=True)
        variance = np.maximum(self.height - (explained**2).sum(axis=0), 1e-12)
        return self.center + self.unit * mean, self.unit * np.sqrt(variance)


def suggest(
    model: Posterior,
    rng: np.random.Generator,
    box: SpaceEncoding,
    num_draws: int = 1000,
    num_rounds: int = 4,
    log_cost: Callable[[Array], Array] | None = None,
) -> Array:
    """The configuration, as its point (D,), of highest expected improvement: among random ones, then ever
    closer ones around the best.

    log_cost: of points (N, D), the logarithm (N,) of what their improvement is divided by; None: it is the same for
    all.
    """
    dimensions = model.points.shape[1]
    means, _ = model.predict(model.points)
    best, leader = float(means.max()), model.points[int(means.argmax())]
    near = leader + rng.normal(0, 0.1, (num_draws // 2, dimensions))
    near = np.where(rng.random(near.shape) < _REDRAWN, box.lengths * rng.random(near.shape), near)
    points = box.snap(np.concatenate([box.lengths * rng.random((num_draws, dimensions)), near]))
    tried = cKDTree(model.tried)
    for width in 0.05 * 0.4 ** np.arange(num_rounds):
        gains = _log_gain(model, tried, points, best, log_cost)
        top = points[np.argsort(-gains)[:5]]
        around = np.repeat(top, 20, axis=0) + rng.normal(0, width, (100, dimensions))
        points = np.concatenate([top, box.snap(around)])
    result: Array = points[int(np.argmax(_log_gain(model, tried, points, best, log_cost)))]
    return result


def _log_gain(
    model: Posterior,
    tried: cKDTree,
    points: Array,
    best: float,
    log_cost: Callable[[Array], Array] | None,
) -> Array:
    """Logarithm of augmented expected improvement: a fit teaches little where its own noise is larger than what is
    not known (Huang, Allen, Notz and Zeng, 2006), and nothing where one like it was trained from the same seed."""
    mean, sd = model.predict(points)
    of_fit = model.unit**2 * model.noise
    learned = 1 - np.sqrt(of_fit / (of_fit + sd**2))
    distance, _ = tried.query(points, p=np.inf)
    gain = _log_improvement(mean, sd, best) + np.log(learned)
    if log_cost is not None:
        gain = gain - log_cost(points)
    return np.where(distance < _APART, -np.inf, gain)


def _log_improvement(mean: Array, sd: Array, best: float) -> Array:
    """Logarithm of expected improvement, stable where it is tiny (Ament et al., arXiv:2310.20708)."""
    z = (mean - best) / sd
    near = np.maximum(z, -30.0)
    improvement = np.exp(-(near**2) / 2) / np.sqrt(2 * np.pi) + near * special.ndtr(near)
    result: Array = np.where(
        z > -30,
        np.log(np.maximum(improvement, 1e-300)),
        -(z**2) / 2 - 2 * np.log(-np.minimum(z, -1)) - np.log(2 * np.pi) / 2,
    ) + np.log(sd)
    return result


def _first_guess(dimensions: int) -> Array:
    return np.array([*np.full(dimensions, np.log(0.5 * np.sqrt(dimensions))), 0.0, np.log(0.05)])


def _unpack(theta: Array) -> tuple[Array, float, float]:
    return np.exp(theta[:-2]), float(np.exp(theta[-2])), float(np.exp(theta[-1]))


def _kernel(squares: Array, lengths: Array, height: float) -> tuple[Array, Array]:
    """Matérn-5/2 of squared distances (N, M, D), and its derivative by the scaled squared distance, (N, M) each."""
    distance = np.sqrt(5 * (squares @ lengths**-2) + 1e-12)
    decay = np.exp(-distance)
    return height * (1 + distance + distance**2 / 3) * decay, -height * (5 / 6) * (1 + distance) * decay


def matern(distances: Array, height: float) -> Array:
    """Matérn-5/2 of distances in length scales, of any shape."""
    distance = np.sqrt(5) * distances
    result: Array = height * (1 + distance + distance**2 / 3) * np.exp(-distance)
    return result


def _loss(theta: Array, squares: Array, values: Array, folds: Array) -> tuple[float, Array]:
    """Negative log posterior of the kernel's logarithms, and its gradient."""
    lengths, height, noise = _unpack(theta)
    kernel, slope = _kernel(squares, lengths, height)
    covariance = kernel + np.diag(noise / folds + JITTER)
    factor = linalg.cholesky(covariance, lower=True)
    inverse = linalg.cho_solve((factor, True), np.eye(len(values)))
    weights = inverse @ values
    inner = np.outer(weights, weights) - inverse
    by_length = [np.sum(inner * slope * squares[:, :, d]) * -2 / lengths[d] ** 2 for d in range(len(lengths))]
    gradient = -0.5 * np.array([*by_length, np.sum(inner * kernel), np.sum(np.diag(inner) * noise / folds)])
    center, spread = _first_guess(len(lengths)), np.array([*np.full(len(lengths), 0.8), 1.5, 1.5])
    away = (theta - center) / spread
    value = 0.5 * values @ weights + np.log(np.diag(factor)).sum() + 0.5 * away @ away
    return float(value), gradient + away / spread
