"""Worlds whose best configuration is known, in which a race can be repeated a thousand times.

A world gives the true Dice of a configuration, a point of the unit cube, and what a fit shows of it: the Dice of an
image is the truth, plus effects of the image and its fold, of the configuration on this sequence, image and fold, and
of the training seed. During a fit the validation Dice rises epoch by epoch, along a power of time.

Sizes that a world does not set are those of recorded real fits: fit_noise.json, with the command that measured them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

Point = tuple[float, ...]  # a configuration: every parameter a number from 0 to 1


@cache
def recorded() -> dict[str, float]:
    """Parameters measured on real fits: SDs in Dice by source of variance, and those of learning curves."""
    found = json.loads(Path(__file__).with_name("fit_noise.json").read_text(encoding="utf-8"))
    result: dict[str, float] = found["sd"] | found["learning"]
    return result


def _recorded(*parts: str) -> float:
    """SD of the sum of these parts of the recorded variance."""
    return float(np.sqrt(sum(recorded()[part] ** 2 for part in parts)))


@dataclass(frozen=True)
class World:
    """Sizes of effects in Dice, 0.01 being one point. 1,600 images in sequences of 8, five grouped folds."""

    name: str
    num_parameters: int = 3
    num_choices: int = 0  # so many of these, the last ones, are choices of three numbers
    num_sequences: int = 200
    sequence_length: int = 8
    num_folds: int = 5
    scale: tuple[float, float] = (0.05, 0.12)  # lost at distance `reach` from the best, by parameter
    reach: float = 0.5
    most_lost: float = np.inf  # where the loss levels off far from the best
    fit_sd: float = _recorded("fit")  # training seed
    image_sd: float = _recorded(
        "setting_image", "fit_image"
    )  # configuration by image; effects of images alone cancel
    sequence_share: float = 0.0  # of that variance, what images of a sequence share
    fold_sd: float = _recorded("fold")  # how much folds differ in difficulty
    fold_configuration_sd: float = _recorded("setting_fold")  # configuration by fold
    is_null: bool = False  # all configurations are equally good
    num_epochs: int = 1  # of a fit
    amplitude: float = _recorded("amplitude")  # Dice that the power of time takes away after one epoch
    rates: tuple[float, float] = (
        _recorded("rate"),
    ) * 2  # that power where the first parameter is 0, and where it is 1
    epoch_sd: float = _recorded("epoch_sd")  # of single epochs around their curve
    # Fits need memory: the sum of the first two parameters, as of image size and width. What the best point leaves of
    # what there is; None: memory is never short.
    memory_left: tuple[float, float] | None = None

    def draw(self, seed: int) -> Instance:
        return Instance(self, seed)


class Instance:
    """One world with its best point, images and folds, drawn by a seed."""

    def __init__(self, world: World, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        self.world, self.seed = world, seed
        self.best = self._choose(rng.uniform(0.15, 0.85, world.num_parameters))
        self.scale = rng.uniform(*world.scale, world.num_parameters) * (not world.is_null)
        near = np.clip(self.best + rng.normal(0, 0.25, world.num_parameters), 0, 1)
        self.first: Point = tuple(self._choose(near).tolist())
        self.memory = np.inf
        if world.memory_left is not None:
            needed = self.best[:2].sum()
            self.memory = needed + np.random.default_rng([seed, 9]).uniform(*world.memory_left)
            excess = max(1.0, (near[:2].sum() - needed) / (0.999 * self.memory - needed))
            self.first = tuple(self._choose(self.best + (near - self.best) / excess).tolist())
        self.baselines: tuple[Point, ...] = (self.first,)  # the first trials
        self.fold_level = rng.normal(0, world.fold_sd, world.num_folds)
        self.image_level = [rng.normal(0, 0.03, self.images_per_fold) for _ in range(world.num_folds)]

    @property
    def sequences_per_fold(self) -> int:
        return self.world.num_sequences // self.world.num_folds

    @property
    def images_per_fold(self) -> int:
        return self.sequences_per_fold * self.world.sequence_length

    @property
    def space(self) -> list[BaseDistribution]:
        """The distribution of every parameter."""
        choices = self.world.num_choices
        free = self.world.num_parameters - choices
        return [FloatDistribution(0, 1)] * free + [CategoricalDistribution((0.0, 0.5, 1.0))] * choices

    @property
    def names(self) -> list[str]:
        """The name of each parameter."""
        return [f"x{place}" for place in range(self.world.num_parameters)]

    def seconds(self, point: Point) -> float:
        """Mean duration of a fit of this configuration in simulated time: 1 for all."""
        return 1.0

    def _choose(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """The nearest point that the choices allow."""
        free = self.world.num_parameters - self.world.num_choices
        return np.concatenate([point[:free], np.round(2 * point[free:]) / 2])

    @property
    def groups(self) -> list[list[str]]:
        """groups[fold][image], as `Race` takes them."""
        one = np.repeat(np.arange(self.sequences_per_fold), self.world.sequence_length)
        return [[f"{fold}-{sequence}" for sequence in one] for fold in range(self.world.num_folds)]

    def is_too_large(self, point: Point) -> bool:
        """Whether memory does not suffice: all fits of this configuration fail at once."""
        return sum(point[:2]) > self.memory

    def regret(self, point: Point) -> float:
        """Dice lost to the best point."""
        lost = float(self.scale @ ((np.array(point) - self.best) / self.world.reach) ** 2)
        most = self.world.most_lost
        return lost if np.isinf(most) else -most * float(np.expm1(-lost / most))

    def fit(self, number: int, point: Point, fold: int) -> NDArray[np.float64]:
        """Dice of every image of a fold, (N,), in [0, 1]; the same at every call."""
        world, rng = self.world, np.random.default_rng([self.seed, 1, number, fold])
        shared = rng.normal(0, world.image_sd * np.sqrt(world.sequence_share), self.sequences_per_fold)
        own = rng.normal(0, world.image_sd * np.sqrt(1 - world.sequence_share), self.images_per_fold)
        level = 0.7 - self.regret(point) + self.fold_level[fold] + rng.normal(0, world.fit_sd)
        level += rng.normal(0, world.fold_configuration_sd)
        result: NDArray[np.float64] = np.clip(
            level + self.image_level[fold] + np.repeat(shared, world.sequence_length) + own, 0, 1
        )
        return result

    def curve(self, number: int, point: Point, fold: int) -> NDArray[np.float64]:
        """Validation Dice epoch by epoch, (num_epochs,), in [0, 1]: it ends at the mean of `fit`."""
        world, rng = self.world, np.random.default_rng([self.seed, 6, number, fold])
        slow, fast = world.rates
        lacking = np.arange(1, world.num_epochs + 1) ** -(slow * (fast / slow) ** point[0])
        dice = self.fit(number, point, fold).mean() - world.amplitude * (lacking - lacking[-1])
        result: NDArray[np.float64] = np.clip(dice + rng.normal(0, world.epoch_sd, world.num_epochs), 0, 1)
        return result
