"""Which pairs of frames are worth a closer look: those whose aggregated landmarks and colors are most alike.

Every frame gets the same number of partners, however many frames there are, so that the closer look grows linearly. The
comparison of vectors is quadratic, but a hundredth of the work; it goes in blocks, so that memory does not grow with
the number of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.data.near_duplicates.descriptors import mirrored_aggregates

SHORTLIST = 40  # partners of each frame
ROWS, COLUMNS = 512, 2048  # of a block
COLOR_WEIGHT = 0.01  # how much a difference of one in a and b of CIE Lab takes from a likeness of at most one

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Looks:
    """What the frames of a dataset look like as a whole."""

    vectors: NDArray[np.float16]  # (N, D)
    colors: Floats  # (N, C)

    def likeness(self, rows: Sequence[int], columns: Sequence[int]) -> Floats:
        """(R, C), of these frames as they are."""
        one, other = list(rows), list(columns)
        vectors = self.vectors[one].astype(np.float32) @ self.vectors[other].astype(np.float32).T
        return vectors - COLOR_WEIGHT * _apart(self.colors[one], self.colors[other])


def shortlist(one: Looks, other: Looks | None, size: int = SHORTLIST) -> NDArray[np.int32]:
    """(P, 4), sorted: i, j, whether j is mirrored, and the rank at which one is on the list of the other.

    Without `other` pairs are within `one`, and i < j.
    """
    found = _listed(one, other or one, size, within=other is None)
    if other is None:
        found[:, :2] = np.sort(found[:, :2], axis=1)
    else:
        found = np.concatenate([found, _listed(other, one, size, within=False)[:, [1, 0, 2, 3]]])
    found = found[np.lexsort(found.T[::-1])]
    _, first = np.unique(found[:, :3], axis=0, return_index=True)
    return found[first]


def _listed(one: Looks, other: Looks, size: int, *, within: bool) -> NDArray[np.int32]:
    """(P, 4): the `size` frames of `other`, mirrored or not, that are most like each frame of `one`."""
    num = len(one.vectors)
    size = min(size, 2 * (len(other.vectors) - within))
    parts = [np.zeros((0, 4), np.int32)]
    for start in range(0, num if size else 0, ROWS):
        rows = np.arange(start, min(start + ROWS, num))
        columns, is_mirrored = _nearest(one, other, rows, size, within=within)
        ranks = np.tile(np.arange(size), len(rows))
        parts.append(
            np.stack([np.repeat(rows, size), columns.ravel(), is_mirrored.ravel(), ranks], axis=1).astype(
                np.int32
            )
        )
    return np.concatenate(parts)


def _nearest(
    one: Looks, other: Looks, rows: NDArray[np.intp], size: int, *, within: bool
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """(R, size) frames of `other`, most alike first, and whether they are so when mirrored."""
    vectors = one.vectors[rows].astype(np.float32)
    ways = np.concatenate([vectors, mirrored_aggregates(vectors)])
    best = np.full((len(rows), size), -np.inf, np.float32)
    which = np.zeros((len(rows), size), np.int64)  # frame, and NUM further on where it is mirrored
    num = len(other.vectors)
    for start in range(0, num, COLUMNS):
        block = other.vectors[start : start + COLUMNS].astype(np.float32)
        plain, turned = np.split(ways @ block.T, 2)
        apart = COLOR_WEIGHT * _apart(one.colors[rows], other.colors[start : start + COLUMNS])
        columns = start + np.arange(len(block))
        if within:
            plain[rows[:, None] == columns] = turned[rows[:, None] == columns] = -np.inf
        scores = np.concatenate([best, plain - apart, turned - apart], axis=1)
        names = np.concatenate(
            [which, *(np.broadcast_to(columns + add, plain.shape) for add in (0, num))], axis=1
        )
        top = np.argpartition(-scores, size - 1, axis=1)[:, :size]
        best, which = np.take_along_axis(scores, top, axis=1), np.take_along_axis(names, top, axis=1)
    order = np.lexsort((which, -best), axis=1)
    which = np.take_along_axis(which, order, axis=1)
    return which % num, which >= num


def _apart(one: Floats, other: Floats) -> Floats:
    """(R, C): root of the mean squared difference in color."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0) / one.shape[1])
