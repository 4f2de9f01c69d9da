"""Steps that change the colors and the sharpness of an image, and leave its mask as it is."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from orchestrator.data.augmentation.steps import Frame, Pixels, Range, samples

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class Light:
    """Factors of brightness, contrast (about the mean grey) and saturation, and a rotation of hue in degrees.

    Linear in RGB: all are one matrix, and values are rounded and clipped once; hue rotates about the grey axis.
    """

    p: float
    brightness: Range = (1, 1)
    contrast: Range = (1, 1)
    saturation: Range = (1, 1)
    hue: Range = (0, 0)

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        if rng.random() >= self.p:
            return image, mask
        brightness, contrast, saturation, hue = samples(
            rng, self.brightness, self.contrast, self.saturation, self.hue
        )
        grey = sum(share * mean for share, mean in zip(LUMA, cv2.mean(image), strict=False))
        factor, added = brightness * contrast, (1 - contrast) * brightness * grey
        pale = [factor * (1 - saturation) * share for share in LUMA]
        turned = [factor * saturation * share for share in _hue_shares(hue)]
        matrix = [(*(turned[column - row] + pale[column] for column in range(3)), added) for row in range(3)]
        return cv2.transform(image, np.array(matrix, np.float32)), mask  # type: ignore[return-value]


@dataclass(frozen=True)
class Value:
    """Multiply the value of HSV by a factor."""

    factor: Range

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
        value = cv2.convertScaleAbs(value, alpha=rng.uniform(*self.factor))
        return cv2.cvtColor(cv2.merge((hue, saturation, value)), cv2.COLOR_HSV2RGB), mask  # type: ignore[return-value]


@dataclass(frozen=True)
class ChannelShift:
    """Add a random offset of at most `limit` to each channel, with probability p."""

    p: float
    limit: float  # of 255

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        if rng.random() >= self.p:
            return image, mask
        shift = rng.uniform(-self.limit, self.limit, 3)
        return cv2.transform(image, np.column_stack((np.eye(3), shift)).astype(np.float32)), mask  # type: ignore[return-value]


@dataclass(frozen=True)
class Sharpen:
    """Extrapolate from the frame's 3 x 3 smoothing by a factor above one, with probability p."""

    p: float
    factor: Range

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        if rng.random() >= self.p:
            return image, mask
        factor = rng.uniform(*self.factor)
        kernel = np.ones((3, 3))
        kernel[1, 1] = 5
        smooth = cv2.filter2D(image, -1, kernel / kernel.sum())
        return cv2.addWeighted(image, factor, smooth, 1 - factor, 0), mask  # type: ignore[return-value]


def gray(image: Pixels, mask: Pixels, rng: Generator) -> Frame:
    """Replace all three channels by the luma."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), mask  # type: ignore[return-value]


@dataclass(frozen=True)
class Blur:
    """A Gaussian of deviation 0.5 to 3 or motion blur of 3 to `most` pixels, equally likely, with probability p.

    Kernels and their distribution are those of albumentations 2.0.8 (OneOf, GaussianBlur, MotionBlur).
    """

    p: float
    most: int  # pixels, odd

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        if rng.random() >= self.p:
            return image, mask
        own = random.Random(int(rng.integers(2**32)))
        for _ in ("Compose", "OneOf"):  # each samples whether it is applied
            own.random()
        if rng.random() < 0.5:
            line = _gaussian(own.uniform(0.5, 3), own.randint(3, self.most) // 2)
            return cv2.sepFilter2D(image, -1, line, line), mask  # type: ignore[return-value]
        wider = own.randint(0, (self.most - 3) // 2) if self.most > 3 else 0
        return cv2.filter2D(image, -1, _motion(3 + 2 * wider, own)), mask  # type: ignore[return-value]


def _gaussian(sigma: float, reach: int) -> NDArray[np.float64]:
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    result: NDArray[np.float64] = weights / weights.sum()
    return result


def _motion(size: int, own: random.Random) -> NDArray[np.float32]:
    """(size, size): equal weights on a line of random direction whose ends are at random distances from the middle."""
    reach = size // 2
    angle, ahead = math.radians(own.uniform(0, 360)), own.uniform(-1, 1)
    start, stop = -reach * (1 - max(ahead, 0)), reach * (1 + min(ahead, 0))
    shifts = [own.uniform(-1, 1) * reach / 2 for _ in range(2)]
    kernel = np.zeros((size, size), np.float32)
    for place in np.linspace(start, stop, size).tolist():
        column, row = (
            min(max(round(reach + along * place + shift), 0), size - 1)
            for along, shift in zip((math.cos(angle), math.sin(angle)), shifts, strict=True)
        )
        kernel[row, column] = 1
    result: NDArray[np.float32] = kernel / kernel.sum()
    return result


def _hue_shares(degrees: float) -> tuple[float, float, float]:
    """Weights of a channel itself, the next one and the one after under a rotation about the grey axis (Rodrigues)."""
    angle = math.radians(degrees)
    third, rest = (1 - math.cos(angle)) / 3, math.sin(angle) / math.sqrt(3)
    return math.cos(angle) + third, third - rest, third + rest
