"""The toolbox of EndoCV2021 (sharib-vision/EndoCV2021-polyp_det_seg_gen), behind the tables of the parallel Res2Net.

Any value above 0 is polyp, in the mask and in the 8-bit prediction. It is meant for masks of zeros and ones; in a grey
map nearly everything counts as polyp, which most likely explains the rows BR, BP and BRP of that paper, but not
BRP+post. In the ground truth JPEG ringing counts, too. A prediction of another size than the ground truth is
thresholded, then resized to it, by area. Each ratio has 1e-15 added to numerator and denominator, which determines
the result for empty masks.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.scoring.papers.score import Map, Mask, Program, Values, counted, grey

_TINY = 1e-15
_TOOLBOX = Program(reads="mask")


def _masks(probabilities: Map, mask: Mask) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    predicted = (np.round(probabilities * 255) > 0).astype(np.uint8)
    if predicted.shape == mask.shape:
        return predicted > 0, grey(mask) > 0
    return cv2.resize(predicted, mask.shape[::-1], interpolation=cv2.INTER_AREA) > 0, grey(mask) > 0


def _ratio(numerator: float, denominator: float) -> float:
    return float((numerator + _TINY) / (denominator + _TINY))


@_TOOLBOX.by_image
def jaccard_endocv(probabilities: Map, mask: Mask) -> float:
    """TP / (TP + FP + FN), any value above 0 being polyp; mean over images. Both empty is 1."""
    tp, fp, fn, _ = counted(*_masks(probabilities, mask))
    return _ratio(tp, tp + fp + fn)


@_TOOLBOX.by_image
def dice_endocv(probabilities: Map, mask: Mask) -> float:
    """2 TP / (2 TP + FP + FN), any value above 0 being polyp; mean over images. Both empty is 1."""
    tp, fp, fn, _ = counted(*_masks(probabilities, mask))
    return _ratio(2 * tp, 2 * tp + fp + fn)


@_TOOLBOX.by_image
def ppv_endocv(probabilities: Map, mask: Mask) -> float:
    """TP / (TP + FP), any value above 0 being polyp; mean over images. An empty prediction has 1, whatever the mask."""
    tp, fp, _, _ = counted(*_masks(probabilities, mask))
    return _ratio(tp, tp + fp)


@_TOOLBOX.by_image
def recall_endocv(probabilities: Map, mask: Mask) -> float:
    """TP / (TP + FN), any value above 0 being polyp; mean over images. An empty mask has 1, whatever is predicted."""
    tp, _, fn, _ = counted(*_masks(probabilities, mask))
    return _ratio(tp, tp + fn)


@_TOOLBOX.by_image
def f2_endocv(probabilities: Map, mask: Mask) -> float:
    """5 P R / (4 P + R) of ppv_endocv and recall_endocv; mean over images. Both empty is 1."""
    tp, fp, fn, _ = counted(*_masks(probabilities, mask))
    ppv, recall = _ratio(tp, tp + fp), _ratio(tp, tp + fn)
    return float(5 * ppv * recall / (4 * ppv + recall + _TINY))


@_TOOLBOX.by_image
def accuracy_endocv(probabilities: Map, mask: Mask) -> float:
    """Share of right pixels, any value above 0 being polyp; mean over images."""
    tp, _, _, tn = pixels = counted(*_masks(probabilities, mask))
    return float((tp + tn) / pixels.sum())


def _rows_apart(probabilities: Map, mask: Mask) -> float:
    ours, theirs = (_different_rows(one) for one in _masks(probabilities, mask))
    squared = ours.sum(axis=1)[:, None] + theirs.sum(axis=1) - 2 * ours @ theirs.T
    return math.sqrt(max(squared.min(axis=0).max(), squared.min(axis=1).max()))


def _different_rows(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """mask (H, W) -> (R, W): its distinct rows, as floats that represent counts up to 2**24 exactly."""
    _, first = np.unique(np.packbits(mask, axis=1), axis=0, return_index=True)
    return mask[first].astype(np.float32)


@_TOOLBOX.by_image
def hausdorff_rows(probabilities: Map, mask: Mask) -> float:
    """The toolbox's "Hausdorff" before normalisation: each image row is taken for one point, with as many
    dimensions as the image is wide; the largest distance from a row of either mask to the nearest of the other. From 0
    to the square root of the width, blind to vertical position; mean over images. Both empty is 0.
    """
    return _rows_apart(probabilities, mask)


@_TOOLBOX.of_set(_rows_apart)
def hausdorff_rows_normalised(distances: Values) -> float:
    """The toolbox's Hausdorff column: hausdorff_rows, its mean over images divided by its maximum over the same images.

    In [0, 1], and not to be compared between sets or systems. All distances 0 is 0, where the toolbox divides 0 by 0.
    """
    return float(distances.mean() / distances.max()) if distances.max() > 0 else 0.0
