"""Where configurations are likely to fail, as far as those that failed tell: memory runs out, training diverges.

A failed configuration has no Dice. Given the lowest one of all, as samplers commonly do, it would make a model expect
little of its neighbours, among which the best often is: the larger images and networks are, the better, until memory
runs out. So the model is not shown it. Instead nothing is tried that is nearer to one that failed than to every one
that worked; and if more than a tenth of all have failed, nothing that is not twice as near to one that worked.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from orchestrator.search.samplers.encoding import Array

MOST_FAILED = 0.1  # share of configurations that may fail before draws keep further away
CAUTION = 2.0  # so many times nearer to one that worked they are from then on
IsAvoided = Callable[[Array], NDArray[np.bool_]]  # of points (N, D), whether each is likely to fail, (N,)


def likely_failures(worked: Array, failed: Array) -> IsAvoided | None:
    """Function of points, by the points (N, D) and (M, D) that worked and failed; None without one of each."""
    is_often = len(failed) > MOST_FAILED * (len(worked) + len(failed))
    return _nearer_to(failed, worked, CAUTION if is_often else 1.0)


def first_likely_to_work(points: Array, worked: Array, failed: Array) -> Array:
    """The first of points (K, D) not nearer to one of those (M, D) that failed than to all (N, D) that worked.

    The first of all where there is none.
    """
    avoided = _nearer_to(failed, worked, 1.0)
    allowed = points if avoided is None else points[~avoided(points)]
    result: Array = (allowed if len(allowed) else points)[0]
    return result


def _nearer_to(failed: Array, worked: Array, caution: float) -> IsAvoided | None:
    if not len(failed) or not len(worked):
        return None
    to_failed, to_worked = cKDTree(failed), cKDTree(worked)

    def is_avoided(points: Array) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = caution * to_worked.query(points)[0] > to_failed.query(points)[0]
        return result

    return is_avoided
