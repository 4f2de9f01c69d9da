"""Shortlist of frame pairs to align: those with the most similar global descriptors and colors.

Every frame gets the same number of partners, so that the number of alignments grows linearly with frames. The
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
COLOR_WEIGHT = 0.01  # decrease of the likeness (at most 1) per unit of difference in a and b of CIE Lab

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GlobalDescriptors:
    """Global descriptors of the frames of a dataset."""

    vectors: NDArray[np.float16]  # (N, D)
    colors: Floats  # (N, C)

    def likeness(self, rows: Sequence[int], columns: Sequence[int]) -> Floats:
        """(R, C): likeness of these frames, not mirrored."""
        one, other = list(rows), list(columns)
        vectors = self.vectors[one].astype(np.float32) @ self.vectors[other].astype(np.float32).T
        return vectors - COLOR_WEIGHT * _color_distance(self.colors[one], self.colors[other])


def shortlist(
    one: GlobalDescriptors, other: GlobalDescriptors | None, size: int = SHORTLIST
) -> NDArray[np.int32]:
    """(P, 4), sorted: i, j, whether j is mirrored, and the rank of one frame in the other's list.

    Without `other`, pairs are within `one`, and i < j.
    """
    found = _listed(one, other or one, size, within=other is None)
    if other is None:
        found[:, :2] = np.sort(found[:, :2], axis=1)
    else:
        found = np.concatenate([found, _listed(other, one, size, within=False)[:, [1, 0, 2, 3]]])
    found = found[np.lexsort(found.T[::-1])]
    _, first = np.unique(found[:, :3], axis=0, return_index=True)
    return found[first]


def _listed(
    one: GlobalDescriptors, other: GlobalDescriptors, size: int, *, within: bool
) -> NDArray[np.int32]:
    """(P, 4): the `size` frames of `other`, mirrored or not, that are most similar to each frame of `one`."""
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
    one: GlobalDescriptors, other: GlobalDescriptors, rows: NDArray[np.intp], size: int, *, within: bool
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """(R, size) frames of `other`, most similar first, and whether they are mirrored."""
    vectors = one.vectors[rows].astype(np.float32)
    ways = np.concatenate([vectors, mirrored_aggregates(vectors)])
    best = np.full((len(rows), size), -np.inf, np.float32)
    which = np.zeros((len(rows), size), np.int64)  # frame index, plus NUM where it is mirrored
    num = len(other.vectors)
    for start in range(0, num, COLUMNS):
        block = other.vectors[start : start + COLUMNS].astype(np.float32)
        plain, turned = np.split(ways @ block.T, 2)
        apart = COLOR_WEIGHT * _color_distance(one.colors[rows], other.colors[start : start + COLUMNS])
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


def _color_distance(one: Floats, other: Floats) -> Floats:
    """(R, C): root mean squared difference in color."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    result: Floats = np.sqrt(np.maximum(squares, 0) / one.shape[1])
    return result
