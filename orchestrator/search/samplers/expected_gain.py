"""Acquisition functions: the expected gain of one more fit, by a model of all configurations.

`by_knowledge` is the knowledge gradient (Frazier, Powell and Dayanik, 2009): how much higher the best expected value of
all configurations, the new one among them, will be once a fold of it was seen. A fit whose noise is large can gain
little, and one from which much follows for other configurations can gain much where it is not the best itself.
`by_improvement` is the expected improvement (Jones, Schonlau and Welch, 1998) over the best expected value.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special
from scipy.spatial import cKDTree

from orchestrator.search.samplers.encoding import Array, SpaceEncoding
from orchestrator.search.samplers.failures import IsAvoided
from orchestrator.search.samplers.gaussian_process import Posterior

LEADERS = 60  # configurations of highest expected value, of which the best may change
LEAST_KNOWN = 1e-9  # of an SD counts as a gain: where nothing can be gained, what is least known is looked at
_REDRAWN = 0.2  # share of coordinates near the leader that may be anything: a choice has no neighbourhood
_APART = 0.01  # nearer in every coordinate to a configuration that was tried there is nothing to learn
_NODES = np.linspace(-5, 5, 41)  # of a standard normal variable: close enough for what bends between them
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()
Gain = Callable[[Array], Array]  # of points (N, D), the logarithm of what each is expected to gain, (N,)


def by_knowledge(model: Posterior) -> Gain:
    """Function of points: log of the rise, in Dice, of the best expected value by a fit on one fold."""
    means = model.mean(model.points)
    leading = np.argsort(-means, kind="stable")[:LEADERS]
    leaders, values = model.points[leading], means[leading]
    of_fit = model.unit**2 * model.noise

    def log_gain(points: Array) -> Array:
        mean, sd = model.predict(points)
        sd_shown = np.sqrt(sd**2 + of_fit)  # of the score that the fit will have
        moved = model.covariance(leaders, points) / sd_shown
        gain = np.zeros(len(points))
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            best = (values[:, None] + node * moved).max(axis=0)
            gain += weight * (np.maximum(best, mean + node * sd**2 / sd_shown) - values[0])
        result: Array = np.log(np.maximum(gain, 0.0) + LEAST_KNOWN * sd)
        return result

    return log_gain


def by_improvement(model: Posterior) -> Gain:
    """Function of points: log of the expected improvement, in Dice, over the best expected value."""
    best = float(model.mean(model.points).max())
    return lambda points: _log_improvement(*model.predict(points), best)


def suggest(
    model: Posterior,
    rng: np.random.Generator,
    box: SpaceEncoding,
    gain: Callable[[Posterior], Gain] = by_knowledge,
    log_cost: Gain | None = None,
    avoided: IsAvoided | None = None,
    num_draws: int = 500,
    num_rounds: int = 4,
) -> Array:
    """The configuration of highest expected gain, as its point (D,): from random ones, then ever closer ones.

    log_cost: of points (N, D), the logarithm (N,) of the cost that divides their gain; None: equal costs.
    avoided: of points (N, D), whether each is left out (N,); None: none is.
    """
    dimensions = model.points.shape[1]
    leader = model.points[int(model.mean(model.points).argmax())]
    near = leader + rng.normal(0, 0.1, (num_draws, dimensions))
    near = np.where(rng.random(near.shape) < _REDRAWN, box.lengths * rng.random(near.shape), near)
    points = box.snap(np.concatenate([box.lengths * rng.random((num_draws, dimensions)), near]))
    worth = _worth(model, gain(model), log_cost, avoided)
    for width in 0.05 * 0.4 ** np.arange(num_rounds):
        top = points[np.argsort(-worth(points))[:5]]
        around = np.repeat(top, 20, axis=0) + rng.normal(0, width, (100, dimensions))
        points = np.concatenate([top, box.snap(around)])
    result: Array = points[int(np.argmax(worth(points)))]
    return result


def _worth(model: Posterior, log_gain: Gain, log_cost: Gain | None, avoided: IsAvoided | None) -> Gain:
    """Function of points: log of gain over cost; -inf where avoided, and near a tried one: fits have the same seeds."""
    tried = cKDTree(model.tried)

    def worth(points: Array) -> Array:
        found = log_gain(points) - (0.0 if log_cost is None else log_cost(points))
        distance, _ = tried.query(points, p=np.inf)
        left_out = distance < _APART if avoided is None else (distance < _APART) | avoided(points)
        return np.where(left_out, -np.inf, found)

    return worth


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
