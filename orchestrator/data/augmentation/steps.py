"""Steps of augmentation pipelines: image and mask are transformed together, all randomness comes from a generator.

image uint8 (H, W, 3), RGB, and mask uint8 (H, W) in {0, 1} are never changed in place. Optimised for one core: one
interpolation for image and mask together and all geometric maps (geometry.py), and one matrix for all color changes
(color.py).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
Frame: TypeAlias = tuple[Pixels, Pixels]  # image, mask
Step: TypeAlias = Callable[[Pixels, Pixels, Generator], Frame]
Range: TypeAlias = tuple[float, float]  # of a uniform distribution


def resize_frame(image: Pixels, mask: Pixels, size: int) -> Frame:
    """Image and mask at (size, size): halvings, then bilinear; eight times as fast as area averages."""
    if mask.shape == (size, size):
        return image, mask
    return _shrunk(image, size), _binary(_shrunk(mask * np.uint8(255), size))


def pack(image: Pixels, mask: Pixels) -> Pixels:
    """uint8 (H, W, 4): RGB, and 255 where the mask is 1. OpenCV moves four channels twice as fast as three."""
    return cv2.insertChannel(mask * np.uint8(255), cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), 3)  # type: ignore[return-value]


def unpack(packed: Any) -> Frame:
    """Image and mask from the form of `pack`; an interpolated fourth channel is thresholded at one half."""
    mask = packed.view("<i4")[..., 0] < 0  # the fourth byte above 127; three times as fast as slicing
    return cv2.cvtColor(packed, cv2.COLOR_RGBA2RGB), mask.view(np.uint8)  # type: ignore[return-value]


def samples(rng: Generator, *ranges: Range) -> list[float]:
    """One uniform sample from each range, the same as from separate calls of `rng.uniform`."""
    return [
        low + (high - low) * share
        for (low, high), share in zip(ranges, rng.random(len(ranges)).tolist(), strict=True)
    ]


class Library:
    """A transform of albumentations, with probability p; `make` gets the module when it is first needed.

    Its generator is mutable state, so each thread has its own transform.
    """

    def __init__(self, p: float, make: Callable[[ModuleType], Any]) -> None:
        self.p, self.make = p, make
        self.own = threading.local()

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        if rng.random() >= self.p:
            return image, mask
        if not hasattr(self.own, "compose"):
            import albumentations  # takes nearly two seconds, and evaluation does not need it

            self.own.compose = albumentations.Compose([self.make(albumentations)])
        # Not set_random_seed: it gives each transform its own generator with the same seed, so that all sample
        # the same numbers.
        self.own.compose.set_random_state(rng, random.Random(int(rng.integers(2**32))))
        changed = self.own.compose(image=np.ascontiguousarray(image), mask=mask)
        return changed["image"], changed["mask"]


@dataclass(frozen=True)
class Chain:
    """A sequence of steps."""

    steps: tuple[Step, ...]

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        for step in self.steps:
            image, mask = step(image, mask, rng)
        return image, mask


class OneOf:
    """One of the steps, sampled by weight."""

    def __init__(self, *choices: tuple[float, Step]) -> None:
        self.bounds = np.cumsum([weight for weight, _ in choices])
        self.steps = [step for _, step in choices]

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        drawn = int(np.searchsorted(self.bounds, rng.random() * self.bounds[-1], side="right"))
        return self.steps[drawn](image, mask, rng)


def _shrunk(pixels: Pixels, size: int) -> Pixels:
    while len(pixels) >= 2 * size:
        half = len(pixels) // 2
        pixels = cv2.resize(pixels, (half, half), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _binary(mask: Any) -> Pixels:
    result: Pixels = (mask > 127).view(np.uint8)
    return result
