"""Per-image scores for polyp against background; empty masks are handled here alone.

Neither polyp nor prediction: dice, iou, precision, recall and f2 are 1.
Every other 0/0 counts as 0: a blank prediction on a polyp has precision 0, a false alarm has recall 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orchestrator.common.names import hint
from orchestrator.scoring.histograms import counts_at

Scores = NDArray[np.float64]


def dice(tp: Scores, fp: Scores, fn: Scores, tn: Scores) -> Scores:
    """Twice the overlap over both areas: the harmonic mean of precision and recall."""
    return _one_if_both_empty(_ratio(2 * tp, 2 * tp + fp + fn), tp, fp, fn)


def iou(tp: Scores, fp: Scores, fn: Scores, tn: Scores) -> Scores:
    """Overlap over union of the polyp class, without the background class."""
    return _one_if_both_empty(_ratio(tp, tp + fp + fn), tp, fp, fn)


def precision(tp: Scores, fp: Scores, fn: Scores, tn: Scores) -> Scores:
    """Share of the predicted pixels that are polyp."""
    return _one_if_both_empty(_ratio(tp, tp + fp), tp, fp, fn)


def recall(tp: Scores, fp: Scores, fn: Scores, tn: Scores) -> Scores:
    """Share of the polyp's pixels that are predicted."""
    return _one_if_both_empty(_ratio(tp, tp + fn), tp, fp, fn)


def f2(tp: Scores, fp: Scores, fn: Scores, tn: Scores) -> Scores:
    """F-measure with beta 2: a missed pixel counts four times as much as a false one."""
    return _one_if_both_empty(_ratio(5 * tp, 5 * tp + 4 * fn + fp), tp, fp, fn)


def accuracy(tp: Scores, fp: Scores, fn: Scores, tn: Scores) -> Scores:
    """Share of correct pixels; always high for small polyps."""
    return _ratio(tp + tn, tp + fp + fn + tn)


Formula = Callable[[Scores, Scores, Scores, Scores], Scores]


@dataclass(frozen=True)
class Metric:
    """An entry of the registry: a score of one image, and of a set of images the mean over them."""

    from_counts: Formula | None = None  # of the four pixel counts; None: both masks are needed
    maximise: bool = True
    unit: Literal["share", "pixels"] = "share"  # a share lies in [0, 1] and is printed in percent

    def text(self, value: float, digits: int = 2) -> str:
        """A value as tables print it, without its unit."""
        return f"{value if self.unit == 'pixels' else 100 * value:.{digits}f}"


REGISTRY: Mapping[str, Metric] = {
    **{formula.__name__: Metric(formula) for formula in (dice, iou, precision, recall, f2, accuracy)},
    # of masks: distances.py, components.py
    "hausdorff": Metric(maximise=False, unit="pixels"),
    "hausdorff95": Metric(maximise=False, unit="pixels"),
    "hausdorff_normalised": Metric(maximise=False),
    "hausdorff95_normalised": Metric(maximise=False),
    "boundary_f": Metric(),
    "nsd": Metric(),
    "lesion_f1": Metric(),
}
ALIASES = {"hd": "hausdorff", "hd95": "hausdorff95", "dsc": "dice", "jaccard": "iou", "surface_dice": "nsd"}
# Those that a study's histograms of probabilities give at every threshold.
METRICS: tuple[str, ...] = tuple(name for name, metric in REGISTRY.items() if metric.from_counts)
# Those that take both masks.
OF_MASKS: tuple[str, ...] = tuple(name for name, metric in REGISTRY.items() if not metric.from_counts)
# Those that a trial can be chosen by.
CHOOSING: tuple[str, ...] = tuple(name for name, metric in REGISTRY.items() if metric.maximise)


def metric_name(given: str, *, masks: bool = True) -> str:
    """Name in the registry. ValueError: unknown, or a metric of masks where `masks` is False."""
    name = _without_alias(given)
    if name not in REGISTRY:
        raise ValueError(_unknown(given, REGISTRY if masks else METRICS))
    if not masks and name not in METRICS:
        best = (
            f"`orchestrator best STUDY --metric {given}` chooses a trial by it, " if name in CHOOSING else ""
        )
        raise ValueError(
            f"{name} is computed from masks, and a study keeps only histograms of probabilities: known here are "
            f"{', '.join(METRICS)}; {best}`orchestrator evaluate BUNDLE --data NAME --metric {given}` has it for an "
            "exported model"
        )
    return name


def choosing_metric(given: str) -> str:
    """Name in the registry of a metric that can choose a trial. ValueError: unknown, or a distance."""
    name = _without_alias(given)
    if name in REGISTRY and name not in CHOOSING:
        raise ValueError(
            f"trials cannot be chosen by {name}, a distance: lower is better, and it is a mere convention if a mask is "
            "empty; use nsd, the share of both outlines that lies near the other one"
        )
    if name not in CHOOSING:
        raise ValueError(_unknown(given, CHOOSING))
    return name


def _unknown(given: str, known: Collection[str]) -> str:
    return f"no metric is named {given!r}; {hint(given, known)}known: {', '.join(known)}"


def _without_alias(given: str) -> str:
    return ALIASES.get(given.lower().replace("-", "_"), given)


def score(metric: str, tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> Scores:
    """One metric in [0, 1], elementwise over counts of equal shape. ValueError: an unknown metric."""
    if metric not in METRICS:
        raise ValueError(_unknown(metric, METRICS))
    formula = REGISTRY[metric].from_counts
    assert formula is not None
    # Floats hold pixel counts exactly up to 2**53.
    return formula(*(np.asarray(pixels, dtype=np.float64) for pixels in (tp, fp, fn, tn)))


def scores(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> dict[str, Scores]:
    """All metrics by name, elementwise over pixel counts of equal shape."""
    return {metric: score(metric, tp, fp, fn, tn) for metric in METRICS}


def scores_of_masks(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float]:
    """All metrics of one image, of masks bool (H, W)."""
    tp, fp, fn = (int(np.count_nonzero(pixels)) for pixels in (mask & truth, mask & ~truth, truth & ~mask))
    return {name: float(value) for name, value in scores(tp, fp, fn, mask.size - tp - fp - fn).items()}


def scores_at(histograms: NDArray[np.integer], threshold: float) -> dict[str, Scores]:
    """histograms (N, 2, 256) -> all metrics (N,) at one threshold, a multiple of 1/256 below 1."""
    return {metric: values[:, 0] for metric, values in scores(*counts_at(histograms, threshold)).items()}


def _ratio(numerator: Scores, denominator: Scores) -> Scores:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _one_if_both_empty(values: Scores, tp: Scores, fp: Scores, fn: Scores) -> Scores:
    return np.where(tp + fp + fn == 0, 1.0, values)
