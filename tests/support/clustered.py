"""Scores of images that come in groups, with a known mean: what intervals and tests are tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Draw = Callable[[np.random.Generator, int], np.ndarray]  # how many groups -> what a group's mean is


@dataclass(frozen=True)
class Population:
    """Groups of 1 to 40 images, 7.7 on average, whose images resemble each other."""

    name: str
    mean: float
    group_means: Draw
    values_of: Callable[[np.random.Generator, float, int], np.ndarray]
    per_image: float = 0.0  # what a group's mean changes by for each image above eight

    def draw(self, rng: np.random.Generator, num_groups: int) -> tuple[np.ndarray, np.ndarray]:
        """Return values (N,) and the group of each (N,)."""
        sizes = np.minimum(rng.geometric(0.12, num_groups), 40)
        means = self.group_means(rng, num_groups)
        if self.per_image:
            means = np.clip(means + self.per_image * (sizes - 8), 0.02, 0.99)
        values = [self.values_of(rng, mean, size) for mean, size in zip(means, sizes, strict=True)]
        return np.concatenate(values), np.repeat(np.arange(num_groups).astype(str), sizes)


def _dice_like(rng: np.random.Generator, mean: float, size: int) -> np.ndarray:
    """Mostly high, with a tail of bad images and some that were missed, more of them in hard groups."""
    found = rng.beta(8 * mean + 0.05, 8 * (1 - mean) + 0.05, size)
    return np.where(rng.random(size) < 0.3 - 0.25 * mean, 0.0, found)


# The mean of a Beta(5, 1.2) is 5 / 6.2, of its square 30 / 44.64; multiply out 1 less the share missed, times the mean.
_DICE_MEAN = (0.7 * 0.05 + (0.7 * 8 + 0.25 * 0.05) * 5 / 6.2 + 0.25 * 8 * 30 / 44.64) / 8.1

POPULATIONS = (
    Population("skewed, like Dice", _DICE_MEAN, lambda rng, n: rng.beta(5, 1.2, n), _dice_like),
    Population(
        "normal",
        0.7,
        lambda rng, n: rng.normal(0.7, 0.1, n),
        lambda rng, mean, size: rng.normal(mean, 0.1, size),
    ),
)

# Its mean is that of twenty million groups.
LONG_ONES_LOWER = Population(
    "long ones score lower", 0.63887, lambda rng, n: rng.beta(5, 1.2, n), _dice_like, per_image=-0.012
)
