"""Histograms of a probability map inside and outside its mask: 2 x 256 counts, sufficient for every threshold.

A probability p falls into bin min(floor(256 p), 255). A threshold is a multiple of 1/256, and a pixel is
polyp at threshold b/256 when its bin is at least b, so counting by bin is exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 256


class Confusion(NamedTuple):
    """Pixels of N cases at B thresholds, each int64 (N, B)."""

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    tn: NDArray[np.int64]


def histogram(probabilities: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """probabilities (H, W) in [0, 1], mask (H, W) -> (2, 256): pixels outside the mask, then inside.

    ValueError: shapes that differ, and probabilities that are NaN or outside [0, 1].
    """
    if probabilities.shape != mask.shape:
        raise ValueError(f"a map of {probabilities.shape} cannot be scored on a mask of {mask.shape}")
    return histogram_of_bins(to_bins(probabilities), mask)


def histogram_of_bins(bins: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """bins (H, W) from `quantize`, mask (H, W) -> (2, 256): pixels outside the mask, then inside."""
    pairs = bins + NUM_BINS * mask.astype(np.intp)
    return np.bincount(pairs.ravel(), minlength=2 * NUM_BINS).reshape(2, NUM_BINS).astype(np.uint32)


def to_bins(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Like `quantize`, but ValueError for probabilities that are NaN or outside [0, 1]."""
    # Written so that NaN, for which every comparison is false, is rejected too.
    if not (probabilities.min(initial=0) >= 0 and probabilities.max(initial=0) <= 1):
        raise ValueError("probabilities must lie in [0, 1], found NaN or a value outside")
    return quantize(probabilities)


def quantize(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    """probabilities in [0, 1], any shape -> the bin of each, 0 to 255."""
    result: NDArray[np.uint8] = np.minimum(probabilities * NUM_BINS, NUM_BINS - 1).astype(np.uint8)
    return result


def counts(histograms: NDArray[np.integer]) -> Confusion:
    """histograms (N, 2, 256) -> pixels (N, 256); column b is threshold b/256; at 0 all pixels are polyp."""
    from_top = np.cumsum(histograms[:, :, ::-1], axis=2, dtype=np.int64)[:, :, ::-1]
    fp, tp = from_top[:, 0], from_top[:, 1]
    return Confusion(tp=tp, fp=fp, fn=tp[:, :1] - tp, tn=fp[:, :1] - fp)


def counts_at(histograms: NDArray[np.integer], threshold: float) -> Confusion:
    """The column of `counts` for one threshold: pixels (N, 1)."""
    first = bin_of(threshold)
    sums = histograms.sum(axis=2, dtype=np.int64), histograms[:, :, first:].sum(axis=2, dtype=np.int64)
    (outside, inside), (fp, tp) = (total.T[:, :, None] for total in sums)
    return Confusion(tp=tp, fp=fp, fn=inside - tp, tn=outside - fp)


def bin_of(threshold: float) -> int:
    """The lowest bin that counts as polyp. ValueError: not b/256 with b in 0..255."""
    scaled = threshold * NUM_BINS
    if not (0 <= scaled < NUM_BINS and scaled == int(scaled)):
        raise ValueError(f"expected a multiple of 1/{NUM_BINS} below 1, found {threshold!r}; see snap()")
    return int(scaled)


def snap(threshold: float) -> float:
    """The nearest multiple of 1/256 from 1/256 to 255/256; 0 and 1 would give all pixels the same class."""
    return min(max(round(threshold * NUM_BINS), 1), NUM_BINS - 1) / NUM_BINS
