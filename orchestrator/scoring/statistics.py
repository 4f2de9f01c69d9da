"""How sure a mean over images is, when images of one patient or video tell nearly the same story."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def cluster_interval(
    values: NDArray[np.floating],
    groups: Sequence[str],
    *,
    confidence: float = 0.95,
    seed: int = 0,
    num_resamples: int = 2000,
) -> tuple[float, float]:
    """Bootstrap interval of the mean of `values` (N,), drawing whole groups (N,) with replacement.

    The mean of a draw is the sum of its values over the number of its cases, for groups differ in size.
    Percentiles of few groups are too narrow, so their level is widened to that of Student's t for the number
    of groups. One group says nothing about others: its interval is (-inf, inf), never nan.
    Refused with ValueError: no values, lengths that differ, a confidence outside (0, 1).
    """
    if len(values) == 0 or len(values) != len(groups) or not 0 < confidence < 1:
        raise ValueError(
            f"expected as many values as groups, at least one, and a confidence in (0, 1); "
            f"found {len(values)} values, {len(groups)} groups, confidence {confidence}"
        )
    _, group_of_value = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sums, sizes = np.bincount(group_of_value, weights=values), np.bincount(group_of_value)
    if len(sums) == 1:
        return -np.inf, np.inf
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(sums), size=len(sums)) for _ in range(num_resamples))
    means = [sums[draw].sum() / sizes[draw].sum() for draw in draws]
    tail = _widened_tail((1 - confidence) / 2, len(sums))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _widened_tail(tail: float, num_groups: int) -> float:
    """The normal tail that reaches as far, in standard errors, as Student's t does."""
    reach = np.sqrt(num_groups / (num_groups - 1)) * stats.t.ppf(tail, num_groups - 1)
    return float(stats.norm.cdf(reach))
