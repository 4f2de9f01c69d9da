"""Choice of the threshold for polyp; every threshold is scored exactly from one pass.

The scores come from histograms (N, 2, 256), see histograms.py; choosing a threshold needs no training and no second
pass over images.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from orchestrator.scoring.histograms import NUM_BINS, counts
from orchestrator.scoring.metrics import score

_TIE = 1e-12  # means of the same numbers summed in another order differ by less


def curve(histograms: NDArray[np.integer], metric: str = "dice") -> NDArray[np.float64]:
    """histograms (N, 2, 256) -> score (N, 256) of every case at threshold b/256, b from 0 to 255."""
    return score(metric, *counts(histograms))


def best_threshold(
    histograms: NDArray[np.integer], low: float, high: float, metric: str = "dice"
) -> tuple[float, float]:
    """The threshold in [low, high] with the highest mean score over cases, and that mean.

    Between occurring probabilities all thresholds score alike: of equally good ones the middle of the widest
    contiguous run is taken, the lower run if two are as wide. Thresholds 0 and 1 are never candidates.
    ValueError: no cases, or no multiple of 1/256 between low and high.
    """
    if len(histograms) == 0:
        raise ValueError("a threshold cannot be chosen on no cases")
    first, last = swept_bins(low, high)
    means = curve(histograms, metric)[:, first : last + 1].mean(axis=0)
    chosen, _ = best_of_runs(means[:, None])
    return (first + chosen) / NUM_BINS, float(means[chosen])


def swept_bins(low: float, high: float) -> tuple[int, int]:
    """First and last bin of a sweep over thresholds in [low, high], never 0. ValueError: no such bin."""
    first, last = max(math.ceil(low * NUM_BINS), 1), min(math.floor(high * NUM_BINS), NUM_BINS - 1)
    if first > last:
        raise ValueError(f"no multiple of 1/{NUM_BINS} lies in [{low}, {high}]")
    return first, last


def best_of_runs(means: NDArray[np.float64]) -> tuple[int, int]:
    """means (B, A) -> row and column: the middle of the widest contiguous run of best rows, the first if as wide."""
    runs = [_widest_run(column) for column in (means >= means.max() - _TIE).T]
    column = int(np.argmax([end - start for start, end in runs]))
    start, end = runs[column]
    return (start + end - 1) // 2, column


def _widest_run(wanted: NDArray[np.bool_]) -> tuple[int, int]:
    """Start and end of the longest run of True; (0, 0) if there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], wanted, [False]))))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    widest = int(np.argmax(ends - starts))
    return int(starts[widest]), int(ends[widest])
