"""The protocol of PraNet (Fan et al., arXiv:2006.11392), also of HarDNet-MSEG and Polyp-PVT. UACANet: uacanet.py.

A map is stretched to 0..1 by itself, stored as 8 bit, and cut at the 256 thresholds 0 to 255; a curve is a mean over
images at each. Tables show the mean of the curve (meanDic as "mDice"), or its maximum. No true positive makes a score
0, so an image without polyp has 0 whatever is predicted, and a perfect mask stays below 1, for threshold 0 takes every
pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from orchestrator.scoring.histograms import counts, histogram_of_bins
from orchestrator.scoring.papers import structure
from orchestrator.scoring.papers.score import PAPER_SCORES, Map, Mask, Program, Values, is_polyp, same_shape

_PROTOCOL = Program()


def stretched(probabilities: Map) -> Values:
    """The map scaled so that its lowest value is 0 and its highest 1; 0 for a map without contrast."""
    low, high = float(probabilities.min()), float(probabilities.max())
    return (probabilities - np.float64(low)) / (high - low if high > low else 1.0)


def _stored(probabilities: Map) -> NDArray[np.uint8]:
    return np.round(stretched(probabilities) * 255).astype(np.uint8)


def _curve(
    of: Callable[[Values, Values, Values, Values], tuple[Values, Values]],
) -> Callable[[Map, Mask], Values]:
    """A function of map and mask to a curve (256,), from one of tp, fp, fn, tn (256,) to numerator and denominator."""

    def curve(probabilities: Map, mask: Mask) -> Values:
        same_shape(probabilities.shape, mask.shape)
        confusion = counts(histogram_of_bins(_stored(probabilities), is_polyp(mask))[None])
        tp, fp, fn, tn = (pixels[0].astype(np.float64) for pixels in confusion)
        numerator, denominator = of(tp, fp, fn, tn)
        result: Values = np.divide(
            numerator, denominator, out=np.zeros_like(tp), where=(tp > 0) & (denominator > 0)
        )
        return result

    return curve


_dice = _curve(lambda tp, fp, fn, tn: (2 * tp, 2 * tp + fp + fn))
_iou = _curve(lambda tp, fp, fn, tn: (tp, tp + fp + fn))
_recall = _curve(lambda tp, fp, fn, tn: (tp, tp + fn))
_specificity = _curve(lambda tp, fp, fn, tn: (tn, tn + fp))


@_PROTOCOL.by_image
def dice_pranet(probabilities: Map, mask: Mask) -> float:
    """meanDic, "mDice": mean over 256 thresholds and over images, of maps stretched to 0..1. No true positive is 0."""
    return float(_dice(probabilities, mask).mean())


@_PROTOCOL.by_image
def iou_pranet(probabilities: Map, mask: Mask) -> float:
    """meanIoU, "mIoU": mean over 256 thresholds and over images, of maps stretched to 0..1. No true positive is 0."""
    return float(_iou(probabilities, mask).mean())


@_PROTOCOL.by_image
def recall_pranet(probabilities: Map, mask: Mask) -> float:
    """meanSen: mean over 256 thresholds and over images, of maps stretched to 0..1. No true positive is 0."""
    return float(_recall(probabilities, mask).mean())


@_PROTOCOL.by_image
def specificity_pranet(probabilities: Map, mask: Mask) -> float:
    """meanSpe: mean over 256 thresholds and over images, of maps stretched to 0..1. No true positive is 0, here too."""
    return float(_specificity(probabilities, mask).mean())


@_PROTOCOL.of_set(_dice)
def dice_pranet_max(curves: Values) -> float:
    """maxDic: the highest of the curve that dice_pranet is the mean of: one threshold, chosen on the test images."""
    return float(curves.mean(axis=0).max())


@_PROTOCOL.of_set(_iou)
def iou_pranet_max(curves: Values) -> float:
    """maxIoU: the highest of the curve that iou_pranet is the mean of: one threshold, chosen on the test images."""
    return float(curves.mean(axis=0).max())


@_PROTOCOL.by_image
def mae_pranet(probabilities: Map, mask: Mask) -> float:
    """Mean distance between the stretched 8-bit map and the mask, in [0, 1], lower is better; mean over images."""
    same_shape(probabilities.shape, mask.shape)
    return float(np.abs(_stored(probabilities) / 255 - is_polyp(mask)).mean())


def _alignment(probabilities: Map, mask: Mask) -> Values:
    same_shape(probabilities.shape, mask.shape)
    return structure.e_measure_curve(_stored(probabilities), is_polyp(mask))


@_PROTOCOL.by_image
def weighted_f_pranet(probabilities: Map, mask: Mask) -> float:
    """wFm: F-measure that weighs errors by where they lie (Margolin et al., 2014); mean over images. No polyp is 0."""
    same_shape(probabilities.shape, mask.shape)
    return structure.weighted_f(_stored(probabilities) / 255, is_polyp(mask))


@_PROTOCOL.by_image
def s_measure_pranet(probabilities: Map, mask: Mask) -> float:
    """Sm: structure measure (Fan et al., 2017); mean over images. Without polyp it is 1 less the mean of the map."""
    same_shape(probabilities.shape, mask.shape)
    return structure.s_measure(_stored(probabilities) / 255, is_polyp(mask))


@_PROTOCOL.by_image
def e_measure_pranet(probabilities: Map, mask: Mask) -> float:
    """meanEm: enhanced-alignment measure (Fan et al., 2018), mean over 256 thresholds and over images. Without polyp it
    is the share that is left black. A perfect mask of N pixels comes to N / (N - 1) at all thresholds but 0.
    """
    return float(_alignment(probabilities, mask).mean())


@_PROTOCOL.of_set(_alignment)
def e_measure_pranet_max(curves: Values) -> float:
    """maxEm: the highest of the curve that e_measure_pranet is the mean of: a threshold chosen on the test images."""
    return float(curves.mean(axis=0).max())


SCORES = tuple(score for score in PAPER_SCORES.values() if score.program is _PROTOCOL)
