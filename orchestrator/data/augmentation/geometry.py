"""Steps that move pixels of image and mask: flips, turns, affine and elastic maps, crops, holes, edges of masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from orchestrator.data.augmentation.steps import Frame, Pixels, Range, pack, resize_frame, samples, unpack


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
        degrees, scale, *shift = samples(rng, self.rotate, self.scale, self.shift, self.shift)
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
        """Image and mask, moved, of a frame in the form of `pack`."""
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
    """Grow or shrink the mask, each with probability p, by an ellipse of `pixels`; the image is unchanged."""

    p: float
    pixels: tuple[int, int]  # smallest and largest

    def __call__(self, image: Pixels, mask: Pixels, rng: Generator) -> Frame:
        side = int(rng.integers(self.pixels[0], self.pixels[1] + 1))
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        chance = rng.random()
        if chance < self.p:
            return image, cv2.dilate(mask, ellipse)  # type: ignore[return-value]
        return image, cv2.erode(mask, ellipse) if chance < 2 * self.p else mask  # type: ignore[return-value]


def _exact(change: Callable[..., Any], how: int, size: int) -> np.ndarray:
    """The matrix (3, 3) of a flip or quarter turn of OpenCV, for a square."""
    if change is cv2.rotate:
        return rotation(-90 * (how + 1), 1, size)
    matrix = np.diag((-1.0, 1.0, 1.0) if how == 1 else (1.0, -1.0, 1.0))
    matrix[1 - how, 2] = size - 1
    return matrix


def _warped(packed: Pixels, matrix: np.ndarray, border: int) -> Pixels:
    return cv2.warpAffine(packed, matrix[:2], packed.shape[1::-1], borderMode=border)  # type: ignore[return-value]
