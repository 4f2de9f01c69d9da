"""Alignment of two frames: whether matched landmarks agree on one affine map, so that both show the same place.

Matching: nearest neighbours both ways and the ratio test (Lowe 2004, section 7.1) on root-SIFT (Arandjelovic and
Zisserman 2012). Every match alone gives a translation, rotation and scale, as in Lowe's section 7.3: each is tried
as the start of the map, so that nothing is random. No map mirrors: a frame that may be a mirror image is mirrored
first, which is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.data.near_duplicates.descriptors import expand, mirrored
from orchestrator.data.near_duplicates.landmarks import SMALL, Landmarks

RATIO = 0.9  # how much nearer the best descriptor must be than the second best
ROUGH, FINE = 15.0, 10.0  # pixels within which a match agrees with one other match, and with the map of many
NUM_STARTS = 4
MAX_STRETCH = (
    2.5  # ratio of the axes into which a circle is mapped; an oblique view stretches more than a resize
)
MAX_ZOOM = 5.0
CELL = 6  # pixels; matches closer than this are one observation
MIN_MATCHES = 4
NUM_LIKELY = 10

Array = NDArray[np.float32]


@dataclass(frozen=True)
class FrameFeatures:
    """Landmarks of one frame in the form that is compared with other frames; strongest first."""

    points: Array  # (N, 4): x, y, diameter, angle in radians
    descriptors: Array  # (N, D), of length 1
    picture: NDArray[np.uint8]  # smaller than the frame by SMALL; 0 outside the field of view


@dataclass(frozen=True, slots=True)
class Alignment:
    """Quality of the map from a first to a second frame."""

    num_matches: int  # distinct places that the map explains
    likeness: float  # correlation of the pictures where they overlap, -1 to 1
    overlap: float  # common area as a share of the smaller field of view, 0 to 1


def frame_features(marks: Landmarks) -> FrameFeatures:
    """The landmarks with descriptors as float32 unit vectors."""
    return FrameFeatures(marks.points, expand(marks.descriptors), marks.picture)


def mirror(one: FrameFeatures) -> FrameFeatures:
    """The features of the horizontally flipped frame, computed from those of the frame, without an image."""
    x, y, diameter, angle = one.points.T
    points = np.stack([one.picture.shape[1] * SMALL - 1 - x, y, diameter, np.pi - angle], axis=1)
    return FrameFeatures(points, mirrored(one.descriptors), np.ascontiguousarray(one.picture[:, ::-1]))


def align(one: FrameFeatures, other: FrameFeatures, affine: Array, num_places: int) -> Alignment:
    """Alignment of two frames by an affine map (3, 2) of `find_map`, which explains `num_places` places."""
    return Alignment(num_places, *_compare(one.picture, other.picture, affine))


def find_map(
    one: FrameFeatures, other: FrameFeatures, num_points: int | None = None
) -> tuple[Array, int] | None:
    """Affine (3, 2) from (x, y, 1) of the first frame to (x, y) of the second, and the number of places it explains.

    Only the `num_points` strongest landmarks of each frame are used. None if it explains fewer than MIN_MATCHES.
    """
    first, second = _matches(one.descriptors[:num_points], other.descriptors[:num_points])
    if len(first) < MIN_MATCHES:
        return None
    return _best_map(one.points[first], other.points[second])


def support(one: FrameFeatures, other: FrameFeatures, affine: Array) -> float:
    """Excess over chance of landmarks with a likely partner where the map puts them, in standard deviations.

    Weaker than a match (any partner among the NUM_LIKELY most similar counts), but over all landmarks: this separates
    correct maps with few matches from false ones.
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
    """Rows of both that are mutual nearest neighbours and pass the ratio test."""
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
    """Affine (3, 2) from (x, y, 1), and the number of distinct places whose matches agree with it."""
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
    """(M, M): whether the similarity of match i explains match j; whether both rotate and scale alike."""
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
    """Fit the map to the matches in `agree`, recompute which agree, and repeat once."""
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
    """Whether the map neither mirrors nor scales or stretches more than a camera does."""
    det = np.linalg.det(affine[:2])
    result: bool = (
        1 / MAX_ZOOM**2 < det < MAX_ZOOM**2
        and (affine[:2] ** 2).sum() < (MAX_STRETCH + 1 / MAX_STRETCH) * det
    )
    return result


def _compare(one: NDArray[np.uint8], other: NDArray[np.uint8], affine: Array) -> tuple[float, float]:
    """Correlation of the pictures under the map, and the common area as a share of the smaller field of view."""
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
