"""The values of tf.keras metrics for sigmoid outputs, as ResUNet++ (Jha et al., arXiv:1911.07067) called them, and the
two-class means that they turn into, at 256 x 256, which these networks see and score at. Keras itself is not needed.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scoring.papers.own import at_half
from orchestrator.scoring.papers.score import (
    Map,
    Mask,
    Program,
    Values,
    by_opencv,
    counted,
    grey,
    is_polyp,
    over,
)

_KERAS = Program(size=256, resize_mask=by_opencv)


def _truncated(probabilities: Map, mask: Mask) -> Values:
    return counted(probabilities >= 1, grey(mask) == 255)


def _non_zero(probabilities: Map, mask: Mask) -> Values:
    return counted(probabilities > 0.5, grey(mask) > 0)


def _two_class_iou(tp: float, fp: float, fn: float, tn: float) -> float:
    classes = ((hit, hit + fp + fn) for hit in (tp, tn))
    return float(np.mean([hit / union for hit, union in classes if union > 0]))


@_KERAS.of_set(_truncated)
def iou_keras_truncated(pixels: Values) -> float:
    """MeanIoU(num_classes=2) on the output as it is: floats are cut down to whole numbers, so that only 1.0 counts as
    polyp, and of the mask only 255; mean over polyp and background, of all pixels of the set together. A class that
    neither has is left out.
    """
    return _two_class_iou(*pixels.sum(axis=0))


@_KERAS.of_set(at_half)
def iou_two_class_pixels(pixels: Values) -> float:
    """Mean of polyp and background IoU at 0.5 of all pixels of the set together: what iou_keras_truncated comes to for
    a network whose outputs are 0 and 1. A class that neither has is left out.
    """
    return _two_class_iou(*pixels.sum(axis=0))


@_KERAS.by_image
def iou_two_class(probabilities: Map, mask: Mask) -> float:
    """Mean of polyp and background IoU at 0.5, mean over images: the mIoU of ResUNet++ with CRF and TTA. A class that
    neither has is left out.
    """
    return _two_class_iou(*counted(probabilities > 0.5, is_polyp(mask)))


@_KERAS.of_set(_non_zero)
def recall_keras(pixels: Values) -> float:
    """Recall above 0.5 of all pixels of the set together, every mask value but 0 being polyp, JPEG ringing too. No
    polyp in the set is 0.
    """
    tp, _, fn, _ = pixels.sum(axis=0)
    return over(tp, tp + fn, empty=0.0)


@_KERAS.of_set(_non_zero)
def precision_keras(pixels: Values) -> float:
    """Precision, counted as in recall_keras. Nothing predicted in the set is 0."""
    tp, fp, _, _ = pixels.sum(axis=0)
    return over(tp, tp + fp, empty=0.0)
