"""What a frame is recognised by: points with descriptors (SIFT, Lowe 2004) where the optics show the gut.

A descriptor looks at a larger surrounding than Lowe's: mucosa is smooth, and a vessel or a fold is known by what lies
beside it (Dong and Soatto 2015 on the size of this domain).
Burnt-in text, black corners, position insets and glints look alike in frames that show different places: no point is
taken from them. Frames are brought to one area first, so that pixels and tolerances mean the same in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

AREA = 480 * 360  # pixels of every frame that points are looked for in
MAX_POINTS = 1000
SUPPORT = 1.5  # how many times as large as Lowe's the surrounding is that a descriptor tells of
RIM = 9  # pixels along the edge of the view that are not trusted
TEXT = 25  # pixels; what is thinner than this in a black corner is text
BLACK = 45  # of 255; corners and frames of endoscopy video are up to 30
THIN = 11  # pixels; glints and letters are white and thinner than this
WHITER = 40  # by how much their darkest channel exceeds what is around them
GLARE = 190  # of 255, in the darkest channel; nothing is seen in it
INSET = 40  # by how much green exceeds red in a position inset; mucosa is never green
SMALL = 2  # the picture kept for comparison is smaller than the frame by this


@dataclass(frozen=True)
class Landmarks:
    """The points of one frame, strongest first, in pixels of the frame at AREA."""

    points: NDArray[np.float32]  # (N, 4): x, y, diameter, angle in radians
    descriptors: NDArray[np.uint8]  # (N, 128)
    colors: NDArray[np.float32]  # (N, 2): a and b of CIE Lab around the point
    picture: NDArray[np.uint8]  # (h, w), smaller by SMALL; 0 where the optics show nothing

    @property
    def width(self) -> int:
        """Of the frame that the points are in."""
        return self.picture.shape[1] * SMALL


def find_landmarks(image: NDArray[np.uint8]) -> Landmarks:
    """uint8 (H, W, 3), RGB -> its landmarks; fewer than MAX_POINTS, or none, where there is little to see."""
    frame = _to_area(image)
    view = _view(frame)
    white = _white(frame)
    green = np.ascontiguousarray(frame[..., 1])  # vessels stand out most, noise least
    filled = cv2.inpaint(
        green, white, 3, cv2.INPAINT_TELEA
    )  # or letters would shape the descriptors beside them
    sift = cv2.SIFT_create(contrastThreshold=0.01, edgeThreshold=15)  # type: ignore[attr-defined]
    flattened = cv2.createCLAHE(2.0, (8, 8)).apply(filled)
    inner = cv2.erode(view, np.ones((RIM, RIM), np.uint8), borderValue=0)
    # SIFT gives a point once for each of its angles, in an order that is the same on every run.
    found = sift.detect(flattened, inner * (1 - white))
    found = sorted(found, key=lambda point: -point.response * np.sqrt(point.size))[:MAX_POINTS]
    points = np.array(
        [(*point.pt, point.size, np.deg2rad(point.angle)) for point in found], np.float32
    ).reshape(-1, 4)
    for point in found:
        point.size *= SUPPORT
    _, descriptors = sift.compute(flattened, found)
    small = (frame.shape[1] // SMALL, frame.shape[0] // SMALL)
    picture = cv2.resize(green, small, interpolation=cv2.INTER_AREA)
    seen = cv2.resize(view, small, interpolation=cv2.INTER_NEAREST) > 0
    return Landmarks(
        points=points,
        descriptors=descriptors.astype(np.uint8) if len(found) else np.zeros((0, 128), np.uint8),
        colors=_colors(frame, points),
        picture=np.where(seen, np.maximum(picture, 1), 0).astype(np.uint8),
    )


def _to_area(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = (AREA / (height * width)) ** 0.5
    size = SMALL * max(8, round(width * factor / SMALL)), SMALL * max(8, round(height * factor / SMALL))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)  # type: ignore[return-value]


def _view(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w), 1 where the optics show the gut: the largest bright region, without text and insets."""
    bright = (frame.max(axis=2) > BLACK) & (frame[..., 1].astype(int) - frame[..., 0] <= INSET)
    closed = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((TEXT, TEXT), np.uint8))
    num, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    if num == 1:
        return np.zeros_like(opened)
    return (labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)


def _white(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w), 1 on letters, glints and glare, with a rim."""
    darkest = np.ascontiguousarray(frame.min(axis=2))
    stands_out = cv2.morphologyEx(darkest, cv2.MORPH_TOPHAT, np.ones((THIN, THIN), np.uint8)) > WHITER
    white = (stands_out | (darkest > GLARE)).astype(np.uint8)
    return cv2.dilate(white, np.ones((7, 7), np.uint8))  # type: ignore[return-value]


def _colors(frame: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float32]:
    lab = cv2.cvtColor(cv2.GaussianBlur(frame, (0, 0), 4), cv2.COLOR_RGB2LAB)
    x, y = points[:, :2].round().astype(int).T
    height, width = frame.shape[:2]
    return lab[y.clip(0, height - 1), x.clip(0, width - 1), 1:].astype(np.float32)
