"""Scores without a threshold, on the mask over 255, with 1 added to numerator and denominator. Both empty is near 1.

ResUNet++ and its variants score at 256 x 256; Polyp-PVT and HarDNet-MSEG, in training, at the file's size.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scoring.papers.pranet import stretched
from orchestrator.scoring.papers.score import Map, Mask, Program, Values, by_opencv, grey, same_shape

_RESUNET_PP = Program(size=256, resize_mask=by_opencv)
_POLYP_PVT = Program()


def _sums(probabilities: Map | Values, mask: Mask) -> tuple[float, float]:
    """sum(y p), and sum(y) + sum(p), of the mask y as shares of 255 and the probabilities p."""
    same_shape(probabilities.shape, mask.shape)
    truth = grey(mask) / 255
    return float((truth * probabilities).sum()), float(truth.sum() + probabilities.sum(dtype=np.float64))


def _dice(probabilities: Map | Values, mask: Mask) -> float:
    both, total = _sums(probabilities, mask)
    return (2 * both + 1) / (total + 1)


@_RESUNET_PP.by_image
def dice_soft(probabilities: Map, mask: Mask) -> float:
    """(2 sum(y p) + 1) / (sum(y) + sum(p) + 1): ResUNet++ and its variants at test, where a batch is one image; mean
    over images. Their training logs show the same of the pixels of eight images together.
    """
    return _dice(probabilities, mask)


@_POLYP_PVT.by_image
def dice_soft_stretched(probabilities: Map, mask: Mask) -> float:
    """dice_soft of the map stretched to 0..1: what Polyp-PVT and HarDNet-MSEG select weights by; mean over images."""
    return _dice(stretched(probabilities), mask)


@_RESUNET_PP.by_image
def dice_smooth(probabilities: Map, mask: Mask) -> float:
    """dice_soft of the prediction cut at 0.5: ResUNet++ with CRF and TTA; mean over images. Both empty is 1."""
    return _dice((probabilities > 0.5).astype(np.float64), mask)


@_RESUNET_PP.by_image
def iou_soft(probabilities: Map, mask: Mask) -> float:
    """(sum(y p) + 1) / (sum(y) + sum(p) - sum(y p) + 1), polyp only: the mIoU of the depth-wise separable atrous
    ResUNet++; mean over images.
    """
    both, total = _sums(probabilities, mask)
    return (both + 1) / (total - both + 1)
