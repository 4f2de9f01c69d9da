"""Do two frames show the same place? Landmarks are matched, and those that one affine map explains are counted.

Matching: nearest neighbours both ways and the ratio test (Lowe 2004, section 7.1) on root-SIFT (Arandjelovic and
Zisserman 2012). Every match says by itself how the frame moved, turned and grew, as in Lowe's section 7.3: each
is tried as the start of the map, so that nothing is drawn at random. No map mirrors: a frame that may be a mirror image
is mirrored first, which costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.data.near_duplicates.descriptors import expand, mirrored
from orchestrator.data.near_duplicates.landmarks import SMALL, Landmarks

RATIO = 0.9  # how much nearer the best descriptor must be than the second best
ROUGH, FINE = 15.0, 10.0  # pixels at which a match agrees with one other match, and with the map of many
NUM_STARTS = 4
MAX_STRETCH = 2.5  # aspect of what a circle becomes; a camera that turns aside stretches more than a resize
MAX_ZOOM = 5.0
CELL = 6  # pixels; matches closer than this are one observation
MIN_MATCHES = 4
NUM_LIKELY = 10

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Sight:
    """Landmarks, ready to be compared with many others; strongest first."""

    points: Array  # (N, 4): x, y, diameter, angle in radians
    descriptors: Array  # (N, D), of length 1
    picture: NDArray[np.uint8]  # smaller by SMALL; 0 where the optics show nothing


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the first frame lies over the second."""

    num_matches: int  # distinct places that the map explains
    likeness: float  # correlation of the pictures where both show something, -1 to 1
    overlap: float  # share of the smaller view that both show, 0 to 1


def sight(marks: Landmarks) -> Sight:
    return Sight(marks.points, expand(marks.descriptors), marks.picture)


def mirror(one: Sight) -> Sight:
    """The frame with left and right swapped, without looking at it again."""
    x, y, diameter, angle = one.points.T
    points = np.stack([one.picture.shape[1] * SMALL - 1 - x, y, diameter, np.pi - angle], axis=1)
    return Sight(points, mirrored(one.descriptors), np.ascontiguousarray(one.picture[:, ::-1]))


def align(one: Sight, other: Sight, affine: Array, num_places: int) -> Alignment:
    """What the pictures say of a map that was found."""
    return Alignment(num_places, *_compare(one.picture, other.picture, affine))


def find_map(one: Sight, other: Sight, num_points: int | None = None) -> tuple[Array, int] | None:
    """Affine (3, 2) from (x, y, 1) of the first frame to (x, y) of the second, and the distinct places it explains.

    Of each frame only the `num_points` strongest are looked at. None where it explains fewer than MIN_MATCHES.
    """
    first, second = _matches(one.descriptors[:num_points], other.descriptors[:num_points])
    if len(first) < MIN_MATCHES:
        return None
    return _best_map(one.points[first], other.points[second])


def support(one: Sight, other: Sight, affine: Array) -> float:
    """How many more landmarks than by chance have a likely partner where the map puts them, in standard deviations.

    It asks for less than a match, a partner among the NUM_LIKELY most alike, but asks all landmarks: it tells maps that
    few matches agree with from those that none should.
    """
    places = np.column_stack([one.points[:, :2], np.ones(len(one.points), np.float32)]) @ affine
    height, width = (SMALL * side for side in other.picture.shape)
    inside = ((places > 0) & (places < (width, height))).all(axis=1)
    offs = places[inside, None] - other.points[None, :, :2]
    near = (offs**2).sum(axis=2) < ROUGH**2
    alike = one.descriptors[inside] @ other.descriptors.T
    least = (
        -np.partition(-alike, NUM_LIKELY - 1, axis=1)[:, NUM_LIKELY - 1]
        if alike.shape[1] > NUM_LIKELY
        else -1
    )
    found = (np.where(near, alike, -1).max(axis=1, initial=-1) >= np.maximum(least, -0.99)).sum()
    by_chance = near.sum() * NUM_LIKELY / max(1, alike.shape[1])
    return float((found - by_chance) / (by_chance + 1) ** 0.5)


def _matches(one: Array, other: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of both that are each other's nearest, and clearly so."""
    if len(one) < MIN_MATCHES or len(other) < MIN_MATCHES:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    alike = one @ other.T
    nearest = alike.argmax(axis=1)
    first = np.flatnonzero(alike.argmax(axis=0)[nearest] == np.arange(len(one)))
    rows = alike[first]
    at = np.arange(len(first)), nearest[first]
    best = rows[at]
    rows[at] = -1
    clear = 1 - best < RATIO**2 * (1 - rows.max(axis=1))  # squared distance of unit vectors: 2 - 2 cos
    return first[clear], nearest[first][clear]


def _best_map(source: Array, target: Array) -> tuple[Array, int] | None:
    """Affine (3, 2) from (x, y, 1), and at how many distinct places matches agree with it."""
    turn = target[:, 3] - source[:, 3]
    log_zoom = np.log(target[:, 2] / source[:, 2])
    near, alike = _agreement(source, target, turn, log_zoom)
    support = near.sum(axis=1)
    best = None
    for start in np.argsort(-support, kind="stable")[:NUM_STARTS]:
        if support[start] < MIN_MATCHES:
            break
        refined = _refine(source, target, near[start], alike[start])
        if refined and (best is None or refined[1] > best[1]):
            best = refined
    return best if best and best[1] >= MIN_MATCHES else None


def _agreement(
    source: Array, target: Array, turn: Array, log_zoom: Array
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(M, M): whether the similarity of match i explains match j; whether both turn and zoom alike."""
    zoom = np.exp(log_zoom)
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    dx, dy = (source[None, :, k] - source[:, None, k] for k in (0, 1))
    off_x = cos[:, None] * dx - sin[:, None] * dy - (target[None, :, 0] - target[:, None, 0])
    off_y = sin[:, None] * dx + cos[:, None] * dy - (target[None, :, 1] - target[:, None, 1])
    alike = (np.abs(log_zoom[:, None] - log_zoom) < np.log(2)) & (
        np.cos(turn[:, None] - turn) > np.cos(np.pi / 6)
    )
    near = (off_x**2 + off_y**2 < ROUGH**2) & alike & (np.abs(log_zoom) < np.log(MAX_ZOOM))[:, None]
    return near, alike


def _refine(
    source: Array, target: Array, agree: NDArray[np.bool_], alike: NDArray[np.bool_]
) -> tuple[Array, int] | None:
    """Fit the map to those that agree, see who agrees with it, and once more."""
    places = np.column_stack([source[:, :2], np.ones(len(source), np.float32)])
    for _ in range(2):
        if agree.sum() < MIN_MATCHES:
            return None
        affine = np.linalg.lstsq(places[agree], target[agree, :2], rcond=None)[0]
        if not _plausible(affine):
            return None
        agree = (((places @ affine - target[:, :2]) ** 2).sum(axis=1) < FINE**2) & alike
    num = min(len(np.unique(points[agree, :2] // CELL, axis=0)) for points in (source, target))
    return affine, num


def _plausible(affine: Array) -> bool:
    """Neither mirrored, nor a larger zoom or stretch than a camera makes."""
    det = np.linalg.det(affine[:2])
    return (
        1 / MAX_ZOOM**2 < det < MAX_ZOOM**2
        and (affine[:2] ** 2).sum() < (MAX_STRETCH + 1 / MAX_STRETCH) * det
    )


def _compare(one: NDArray[np.uint8], other: NDArray[np.uint8], affine: Array) -> tuple[float, float]:
    """Correlation of the pictures, one laid over the other, and the share of the smaller view that both show."""
    small = affine.T.astype(np.float64).copy()
    small[:, 2] = (small[:, 2] + (small[:, :2].sum(axis=1) - 1) * (SMALL - 1) / 2) / SMALL
    size = other.shape[1], other.shape[0]
    laid = cv2.warpAffine(one, small, size, flags=cv2.INTER_LINEAR)
    shown = cv2.warpAffine((one > 0).astype(np.uint8), small, size, flags=cv2.INTER_NEAREST) > 0
    both = cv2.erode((shown & (other > 0)).astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    zoomed = abs(np.linalg.det(small[:, :2]))
    smaller = min((one > 0).sum() * zoomed, (other > 0).sum())
    if both.sum() < 25:
        return 0.0, 0.0
    a, b = laid[both].astype(np.float32), other[both].astype(np.float32)
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (np.sqrt((a**2).sum() * (b**2).sum()) + 1e-9)), float(
        min(1.0, both.sum() / smaller)
    )
