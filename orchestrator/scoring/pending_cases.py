"""Exact scores of every threshold with every reference area from one pass: the pending-case rule of postprocess.py.

A case with no more white pixels than the reference area becomes background completely. The number of white pixels, and
the score of the kept or blanked case, follow from its histogram (2, 256), so a sweep needs no image. If holes are
filled or small components removed, histograms must be of `PostProcess.filter`ed bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.scoring.histograms import NUM_BINS, bin_of, counts, counts_at
from orchestrator.scoring.metrics import score, scores
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.scoring.threshold import best_of_runs, swept_bins


class ThresholdAndArea(NamedTuple):
    """A threshold and a reference area, as in `PostProcess`."""

    threshold: float  # multiple of 1/256
    reference_area: float  # share of the frame


def sweep(
    histograms: NDArray[np.integer],
    areas: Sequence[float],
    *,
    metric: str = "dice",
    white_level: float | None = None,
) -> NDArray[np.float64]:
    """histograms (N, 2, 256), areas (A,) as shares of the frame -> mean score over cases (256, A).

    Row b is threshold b/256. White pixels are counted from `white_level`, a multiple of 1/256, or from each threshold.
    ValueError: no cases, no areas, or one outside [0, 1].
    """
    return _sweep(_Outcomes.of(histograms, metric, white_level), areas)


def _sweep(outcomes: _Outcomes, areas: Sequence[float]) -> NDArray[np.float64]:
    if len(outcomes.kept) == 0:
        raise ValueError("a rule cannot be scored on no cases")
    if len(areas) == 0 or not all(0 <= area <= 1 for area in areas):
        raise ValueError(f"expected reference areas as shares of the frame in [0, 1], found {list(areas)}")
    return np.stack([outcomes.scores(area).mean(axis=0) for area in areas], axis=1)


def best_rule(
    histograms: NDArray[np.integer],
    areas: Sequence[float],
    low: float,
    high: float,
    *,
    metric: str = "dice",
    white_level: float | None = None,
) -> tuple[ThresholdAndArea, float]:
    """The threshold in [low, high] and area with the highest mean score over cases, and that mean.

    Of equally good areas the one with the widest contiguous run of best thresholds is taken, the smallest of several
    as wide; of that run, the middle, as in `best_threshold`. ValueError: as `sweep` and `best_threshold`.
    """
    return _best_rule(_Outcomes.of(histograms, metric, white_level), areas, low, high)


def _best_rule(
    outcomes: _Outcomes, areas: Sequence[float], low: float, high: float
) -> tuple[ThresholdAndArea, float]:
    first, last = swept_bins(low, high)
    candidates = sorted(set(areas))
    means = _sweep(outcomes, candidates)[first : last + 1]
    chosen, column = best_of_runs(means)
    return ThresholdAndArea((first + chosen) / NUM_BINS, candidates[column]), float(means[chosen, column])


def cross_fitted_rules(
    histograms: NDArray[np.integer],
    fold_of_case: NDArray[np.integer],
    areas: Sequence[float],
    low: float,
    high: float,
    *,
    metric: str = "dice",
    white_level: float | None = None,
) -> dict[int, ThresholdAndArea]:
    """For each fold the rule with the highest mean score over the cases of all other folds.

    histograms (N, 2, 256), fold_of_case (N,). ValueError: fewer than two folds.
    """
    folds = np.unique(fold_of_case)
    if len(folds) < 2:
        raise ValueError(f"cross-fitting a rule needs two folds or more, found {len(folds)}")
    outcomes, rules = _Outcomes.of(histograms, metric, white_level), {}
    for fold in folds:
        rules[int(fold)], _ = _best_rule(outcomes.of_cases(fold_of_case != fold), areas, low, high)
    return rules


def scores_under(histograms: NDArray[np.integer], masks: PostProcess) -> dict[str, NDArray[np.float64]]:
    """histograms (N, 2, 256) of `masks.filter`ed bins -> all metrics (N,) of the resulting masks."""
    tp, fp, fn, tn = (column[:, 0] for column in counts_at(histograms, masks.threshold))
    white = tp + fp
    if masks.white_level is not None:
        level = counts_at(histograms, masks.white_level)
        white = (level.tp + level.fp)[:, 0]
    kept = white > masks.reference_area * (tp + fp + fn + tn)
    return scores(tp * kept, fp * kept, np.where(kept, fn, tp + fn), np.where(kept, tn, fp + tn))


class _Outcomes(NamedTuple):
    """Possible scores of N cases at 256 thresholds."""

    kept: NDArray[np.float64]  # (N, 256) score if the case is thresholded
    blanked: NDArray[np.float64]  # (N, 1) score if it becomes background
    white: NDArray[np.int64]  # (N, 256), or (N, 1) with a separate white level: pixels
    pixels: NDArray[np.int64]  # (N, 1) of the frame

    @classmethod
    def of(cls, histograms: NDArray[np.integer], metric: str, white_level: float | None) -> _Outcomes:
        tp, fp, fn, tn = counts(histograms)
        inside, outside = (tp + fn)[:, :1], (fp + tn)[:, :1]
        nothing = np.zeros_like(inside)
        white = tp + fp
        if white_level is not None:
            white = white[:, [bin_of(white_level)]]
        blanked = score(metric, nothing, nothing, inside, outside)
        return cls(score(metric, tp, fp, fn, tn), blanked, white, inside + outside)

    def of_cases(self, chosen: NDArray[np.bool_]) -> _Outcomes:
        """The outcomes of the cases selected by `chosen` (N,)."""
        kept, blanked, white, pixels = self
        return _Outcomes(kept[chosen], blanked[chosen], white[chosen], pixels[chosen])

    def scores(self, area: float) -> NDArray[np.float64]:
        """Scores (N, 256) at one reference area."""
        return np.where(self.white > area * self.pixels, self.kept, self.blanked)
