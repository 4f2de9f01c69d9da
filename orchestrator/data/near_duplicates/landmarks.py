"""Landmarks of a frame: points with descriptors (SIFT, Lowe 2004) in the field of view.

A descriptor covers a larger patch than Lowe's: mucosa is smooth, and a vessel or fold is recognised by its
surroundings (Dong and Soatto 2015 on the size of this domain). It is compressed (descriptors.py).
Burnt-in text, black corners, position insets and glints are similar in frames of different places: no point is taken
from them. Frames are first scaled to one area, so that pixels and tolerances mean the same in all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.data.near_duplicates.descriptors import compress

AREA = 480 * 360  # pixels to which every frame is scaled
MAX_POINTS = 600
SUPPORT = 1.5
RIM = 9  # pixels along the edge of the field of view that are ignored
TEXT = 25  # pixels; structures thinner than this in a black corner are text
BLACK = 45  # of 255; corners and frames of endoscopy video are up to 30
THIN = 11  # pixels; glints and letters are white and thinner than this
WHITER = 40  # by how much their darkest channel exceeds the surroundings
GLARE = 190  # of 255, in the darkest channel; nothing is visible in it
INSET = 40  # by how much green exceeds red in a position inset; mucosa is never green
SMALL = 4  # factor by which the picture kept for comparison is smaller than the frame
MAX_PICTURE = 11_264  # pixels of that picture: AREA / SMALL^2, plus some for rounding
COLOR_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # quantiles


@dataclass(frozen=True)
class Landmarks:
    """The points of one frame, strongest first, in pixels of the frame scaled to AREA."""

    points: NDArray[np.float32]  # (N, 4): x, y, diameter, angle in radians
    descriptors: NDArray[np.int8]  # (N, NUM_WAVES)
    colors: NDArray[np.float32]  # quantiles of a, then of b, of CIE Lab over the points
    picture: NDArray[np.uint8]  # (h, w), smaller by SMALL; 0 outside the field of view

    @property
    def width(self) -> int:
        """Width of the scaled frame, pixels."""
        result: int = self.picture.shape[1] * SMALL
        return result


def find_landmarks(
    image: NDArray[np.uint8], max_points: int = MAX_POINTS, support: float = SUPPORT
) -> Landmarks:
    """uint8 (H, W, 3), RGB -> its landmarks: at most `max_points`, fewer or none where little is visible.

    `support`: size of the described patch, relative to Lowe's.
    """
    frame = _to_area(image)
    view = _view(frame)
    white = _white(frame)
    green = np.ascontiguousarray(frame[..., 1])  # most contrast of vessels, least noise
    filled = _without(white, green)  # otherwise letters would change nearby descriptors
    sift = cv2.SIFT_create(contrastThreshold=0.01, edgeThreshold=15)  # type: ignore[attr-defined]
    flattened = cv2.createCLAHE(2.0, (8, 8)).apply(filled)
    inner = cv2.erode(view, np.ones((RIM, RIM), np.uint8), borderValue=0)
    # SIFT returns a point once per orientation, in an order that is deterministic.
    found = sift.detect(flattened, inner * (1 - white))
    found = sorted(found, key=lambda point: -point.response * point.size**0.5)[:max_points]
    points = np.array(
        [(*point.pt, point.size, math.radians(point.angle)) for point in found], np.float32
    ).reshape(-1, 4)
    for point in found:
        point.size *= support
    _, descriptors = sift.compute(flattened, found)
    small = (frame.shape[1] // SMALL, frame.shape[0] // SMALL)
    picture = cv2.resize(green, small, interpolation=cv2.INTER_AREA)
    seen = cv2.resize(view, small, interpolation=cv2.INTER_NEAREST) > 0
    return Landmarks(
        points=points,
        descriptors=compress(descriptors if len(found) else np.zeros((0, 128), np.uint8)),
        colors=_colors(frame, points),
        picture=np.where(seen, np.maximum(picture, 1), 0).astype(np.uint8),
    )


def _to_area(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = (AREA / (height * width)) ** 0.5
    down = max(8, min(MAX_PICTURE // 8, round(height * factor / SMALL)))
    right = max(8, min(MAX_PICTURE // down, round(width * factor / SMALL)))
    shrink = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(image, (SMALL * right, SMALL * down), interpolation=shrink)  # type: ignore[return-value]


def _view(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w), 1 in the field of view: the largest bright region, without text and insets."""
    red, green, blue = cv2.split(frame)
    bright = (cv2.max(cv2.max(red, green), blue) > BLACK) & (cv2.subtract(green, red) <= INSET)
    closed = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((TEXT, TEXT), np.uint8))
    num, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    if num == 1:
        return np.zeros_like(opened)
    result: NDArray[np.uint8] = (labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
    return result


def _white(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w), 1 on letters, glints and glare, dilated."""
    red, green, blue = cv2.split(frame)
    darkest = cv2.min(cv2.min(red, green), blue)
    stands_out = cv2.morphologyEx(darkest, cv2.MORPH_TOPHAT, np.ones((THIN, THIN), np.uint8)) > WHITER
    white = (stands_out | (darkest > GLARE)).astype(np.uint8)
    return cv2.dilate(white, np.ones((7, 7), np.uint8))  # type: ignore[return-value]


def _without(white: NDArray[np.uint8], green: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The green channel with white regions inpainted; at half the size, since the result is smooth."""
    half = (green.shape[1] // 2, green.shape[0] // 2)
    hole = (cv2.resize(white, half, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    small = cv2.inpaint(cv2.resize(green, half, interpolation=cv2.INTER_AREA), hole, 3, cv2.INPAINT_TELEA)
    return np.where(white > 0, cv2.resize(small, green.shape[::-1]), green)


def _colors(frame: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float32]:
    if not len(points):
        return np.full(2 * len(COLOR_SHARES), 128, np.float32)
    lab = cv2.cvtColor(cv2.blur(frame, (9, 9)), cv2.COLOR_RGB2LAB)
    x, y = points[:, :2].round().astype(int).T
    height, width = frame.shape[:2]
    tints = lab[y.clip(0, height - 1), x.clip(0, width - 1), 1:].astype(np.float32)
    return np.quantile(tints, COLOR_SHARES, axis=0).T.ravel().astype(np.float32)
