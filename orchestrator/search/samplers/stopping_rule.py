"""Rule that ends a search when no improvement is likely, by a Gaussian process over configurations.

The model knows how many folds every value rests on (gaussian_process.py). Its promise is the largest expected
improvement, in Dice, over the best of the configurations so far. No improvement is likely when the promise is below
`GAIN`, was so before the last configurations too, and enough configurations were seen for the model to know anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from orchestrator.common.cpus import one_thread
from orchestrator.search.samplers.encoding import Array, ChoiceOfNetworks, SpaceEncoding
from orchestrator.search.samplers.expected_gain import by_improvement, suggest
from orchestrator.search.samplers.failures import likely_failures
from orchestrator.search.samplers.fold_aware_sampler import networks_in
from orchestrator.search.samplers.inducing_points import fitted
from orchestrator.search.space.keys import NETWORK

GAIN = 0.001  # Dice: the race calls no smaller one worth a fit either
IN_A_ROW = 3  # configurations before each of which the promise was below that
MIN_CONFIGURATIONS = 10
MIN_CONFIGURATIONS_A_PARAMETER = 5


@dataclass(frozen=True)
class ShownTrial:
    """A configuration with its value; sequences are in the order in which configurations were begun."""

    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    value: float | None  # Dice, as the sampler gets it; None: it failed
    folds: int  # that the value rests on


def why_unlikely(shown: Sequence[ShownTrial], seed: int = 0) -> str | None:
    """The reason why no improvement is likely; None: one still is, or too little is known."""
    distributions: dict[str, BaseDistribution] = {}
    for one in shown:
        distributions |= one.distributions
    space = {name: found for name, found in sorted(distributions.items()) if not found.single()}
    of = networks_in([(one.params, one.distributions) for one in shown])
    box = ChoiceOfNetworks(NETWORK, space, of) if of else SpaceEncoding(space)
    if not box.columns or len(shown) < max(
        MIN_CONFIGURATIONS, MIN_CONFIGURATIONS_A_PARAMETER * box.num_parameters
    ):
        return None
    points = np.array([box.point(one.params) for one in shown])
    values = np.array([np.nan if one.value is None else one.value for one in shown])
    folds = np.array([max(1, one.folds) for one in shown], dtype=np.float64)
    largest = 0.0
    for last in range(len(shown), len(shown) - IN_A_ROW, -1):
        largest = max(largest, promise(points[:last], values[:last], folds[:last], box, seed))
        if largest >= GAIN:
            return None
    return (
        f"after {len(shown)} configurations no further one is expected to gain more than {100 * largest:.2g} Dice "
        f"points, where {100 * GAIN:.2g} would be worth a fit"
    )


@one_thread()
def promise(points: Array, values: Array, folds: Array, box: SpaceEncoding, seed: int = 0) -> float:
    """Largest expected improvement, Dice, of the configurations in the box over the best of those seen.

    points (N, D), values (N,) with nan for configurations that failed: near them nothing is expected.
    """
    works = np.isfinite(values)
    if not works.any() or np.ptp(values[works]) == 0 or not points.shape[1]:
        return float("inf")
    model = fitted(points[works], values[works], folds[works])
    avoided = likely_failures(points[works], points[~works])
    rng = np.random.default_rng([seed, len(points)])
    asked = suggest(model, rng, box, by_improvement, avoided=avoided)
    return float(np.exp(by_improvement(model)(asked[None])[0]))
