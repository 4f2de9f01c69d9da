"""Steps of augmentation pipelines: image and mask are transformed together, all randomness comes from a generator.

image uint8 (H, W, 3), RGB, and mask uint8 (H, W) in {0, 1} are never changed in place. Optimised for one core: one
interpolation for image and mask together and all geometric maps, and one matrix for all color changes.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
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

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def resize_frame(image: Pixels, mask: Pixels, size: int) -> Frame:
    """Both at (size, size): halved while possible, then bilinear; eight times as fast as area averages."""
    if mask.shape == (size, size):
        return image, mask
    return _shrunk(image, size), _binary(_shrunk(mask * np.uint8(255), size))


def warp(image: Pixels, mask: Pixels, matrix: np.ndarray, border: int) -> Frame:
    """Image and mask with pixel (x, y) moved to matrix (3, 3) times (x, y, 1), bilinear."""
    return unpack(_warped(pack(image, mask), matrix, border))


def rotation(degrees: float, scale: float, size: int) -> np.ndarray:
    """The matrix (3, 3) that rotates and scales about the center of a square of `size` pixels."""
    center = (size - 1) / 2
    along, across = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    return np.array(
        (
            (along, across, (1 - along) * center - across * center),
            (-across, along, across * center + (1 - along) * center),
            (0, 0, 1),
        )
    )


@dataclass(frozen=True)
class Affine:
    """Shift (shares of the side), scale and rotation (degrees) about the center, with probability p."""

    p: float
    shift: Range = (0, 0)
    scale: Range = (1, 1)
    rotate: Range = (0, 0)

    def matrix(self, size: int, rng: Generator) -> np.ndarray | None:
        """A sampled matrix (3, 3); None with probability 1 - p."""
        if rng.random() >= self.p:
            return None
        degrees, scale, *shift = _drawn(rng, self.rotate, self.scale, self.shift, self.shift)
        matrix = rotation(degrees, scale, size)
        matrix[:2, 2] += np.array(shift) * size
        return matrix


@dataclass(frozen=True)
class Corners:
    """Displacement of three points around the center by up to `share` of the side each, with probability p."""

    p: float
    share: float

    def matrix(self, size: int, rng: Generator) -> np.ndarray | None:
        """A sampled matrix (3, 3); None with probability 1 - p."""
        if rng.random() >= self.p:
            return None
        points = size / 2 + size / 3 * np.array([(1, 1), (1, -1), (-1, -1)])
        moved = points + rng.uniform(-self.share, self.share, (3, 2)) * size
        affine = cv2.getAffineTransform(points.astype(np.float32), moved.astype(np.float32))
        return np.vstack((affine, (0, 0, 1)))


@dataclass(frozen=True)
class Move:
    """Flips, quarter turns and affine maps, in one interpolation; exact without an affine map. Squares only."""

    flip: float = 0  # probability, for each axis
    turn: float = 0  # probability of 0 to 3 quarter turns
    affine: tuple[Affine | Corners, ...] = ()
    border: int = cv2.BORDER_CONSTANT  # black, like the surroundings of the frames

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        return self.of_packed(pack(image, mask), rng)

    def of_packed(self, frame: Pixels, rng: Generator) -> Frame:
        """The same for a frame in the form of `pack`."""
        exact: list[tuple[Callable[[Any, int], Any], int]] = [
            (cv2.flip, axis) for axis in (0, 1) if rng.random() < self.flip
        ]
        if rng.random() < self.turn and (turns := int(rng.integers(4))):
            exact.append((cv2.rotate, turns - 1))
        drawn = [matrix for one in self.affine if (matrix := one.matrix(len(frame), rng)) is not None]
        if drawn:
            matrices = [*(_exact(change, how, len(frame)) for change, how in exact), *drawn]
            frame = frame.copy()  # random access to a memory-mapped file takes 1.5 times as long
            return unpack(_warped(frame, reduce(np.matmul, reversed(matrices)), self.border))
        for change, how in exact:
            frame = change(frame, how)
        return unpack(frame)


@dataclass(frozen=True)
class Flip:
    """A flip, always: 0 vertical, 1 horizontal."""

    axis: int

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        return cv2.flip(image, self.axis), cv2.flip(mask, self.axis)  # type: ignore[return-value]


@dataclass(frozen=True)
class Resize:
    """Resize to a square of `size` pixels, before steps whose cost grows with pixels."""

    size: int

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        return resize_frame(image, mask, self.size)


@dataclass(frozen=True)
class RotateWhole:
    """Rotate by an angle in degrees, and shrink so that the whole frame stays visible; black around it."""

    degrees: Range

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        degrees = rng.uniform(*self.degrees)
        shrink = 1 / (abs(np.cos(np.radians(degrees))) + abs(np.sin(np.radians(degrees))))
        return warp(image, mask, rotation(degrees, shrink, len(mask)), cv2.BORDER_CONSTANT)


@dataclass(frozen=True)
class Crop:
    """A square window with a share of the frame's side: in the middle, or anywhere inside."""

    share: Range  # of the side, 0 to 1
    centered: bool = False
    p: float = 1

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        if rng.random() >= self.p:
            return image, mask
        side = round(len(mask) * rng.uniform(*self.share))
        spare = len(mask) - side
        top, left = (spare // 2, spare // 2) if self.centered else rng.integers(0, spare + 1, 2)
        window = np.s_[top : top + side, left : left + side]
        return image[window], mask[window]


@dataclass(frozen=True)
class Cutout:
    """A square of the frame's mean value, without polyp (DeVries and Taylor 2017); half of it may lie outside."""

    share: float  # of the side, 0 to 1

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        side = round(len(mask) * self.share)
        top, left = rng.integers(-(side // 2), len(mask) - side + 1, 2)
        hole = np.s_[max(top, 0) : top + side, max(left, 0) : left + side]
        image, mask = image.copy(), mask.copy()
        image[hole] = round(np.mean(cv2.mean(image)[:3]))
        mask[hole] = 0
        return image, mask


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
        brightness, contrast, saturation, hue = _drawn(
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
class Elastic:
    """Displace pixels by uniform noise in [-1, 1], smoothed with `sigma`, times `alpha` (Simard et al. 2003)."""

    p: float
    alpha: float  # pixels
    sigma: float  # pixels

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        if rng.random() >= self.p:
            return image, mask
        rows, columns = np.indices(mask.shape, np.float32)
        source = (columns + self._shift(mask.shape, rng), rows + self._shift(mask.shape, rng))
        return unpack(
            cv2.remap(pack(image, mask), *source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        )

    def _shift(self, shape: tuple[int, ...], rng: Generator) -> NDArray[np.float32]:
        noise = rng.random(shape, np.float32) * 2 - 1
        return cv2.GaussianBlur(noise, (0, 0), self.sigma) * np.float32(self.alpha)


@dataclass(frozen=True)
class MaskEdge:
    """Grow or shrink the mask, each with probability p, by an ellipse of so many pixels; the image is not changed."""

    p: float
    pixels: tuple[int, int]  # smallest and largest

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        side = int(rng.integers(self.pixels[0], self.pixels[1] + 1))
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        chance = rng.random()
        if chance < self.p:
            return image, cv2.dilate(mask, ellipse)  # type: ignore[return-value]
        return image, cv2.erode(mask, ellipse) if chance < 2 * self.p else mask  # type: ignore[return-value]


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


def _exact(change: Callable[..., Any], how: int, size: int) -> np.ndarray:
    """The matrix (3, 3) of a flip or quarter turn of OpenCV, for a square."""
    if change is cv2.rotate:
        return rotation(-90 * (how + 1), 1, size)
    matrix = np.diag((-1.0, 1.0, 1.0) if how == 1 else (1.0, -1.0, 1.0))
    matrix[1 - how, 2] = size - 1
    return matrix


def _drawn(rng: Generator, *ranges: Range) -> list[float]:
    """One uniform sample from each range, the same as from separate calls of `rng.uniform`."""
    return [
        low + (high - low) * share
        for (low, high), share in zip(ranges, rng.random(len(ranges)).tolist(), strict=True)
    ]


def _shrunk(pixels: Pixels, size: int) -> Pixels:
    while len(pixels) >= 2 * size:
        half = len(pixels) // 2
        pixels = cv2.resize(pixels, (half, half), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def pack(image: Pixels, mask: Pixels) -> Pixels:
    """uint8 (H, W, 4): RGB, and 255 where the mask is 1. OpenCV moves four channels twice as fast as three."""
    return cv2.insertChannel(mask * np.uint8(255), cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), 3)  # type: ignore[return-value]


def _warped(packed: Pixels, matrix: np.ndarray, border: int) -> Pixels:
    return cv2.warpAffine(packed, matrix[:2], packed.shape[1::-1], borderMode=border)  # type: ignore[return-value]


def unpack(packed: Any) -> Frame:
    """Image and mask from the form of `pack`; an interpolated fourth channel is thresholded at one half."""
    mask = packed.view("<i4")[..., 0] < 0  # the fourth byte above 127; three times as fast as slicing
    return cv2.cvtColor(packed, cv2.COLOR_RGBA2RGB), mask.view(np.uint8)  # type: ignore[return-value]


def _binary(mask: Any) -> Pixels:
    result: Pixels = (mask > 127).view(np.uint8)
    return result


def _hue_shares(degrees: float) -> tuple[float, float, float]:
    """Weights of a channel itself, the next one and the one after under a rotation about the grey axis (Rodrigues)."""
    angle = math.radians(degrees)
    third, rest = (1 - math.cos(angle)) / 3, math.sin(angle) / math.sqrt(3)
    return math.cos(angle) + third, third - rest, third + rest
