"""Scripts that score each image with scikit-learn: GMSRF-Net and ColonSegNet; MSRF-Net scores the whole set with it.

They score at the size of the network's map, 256 x 256 or 512 x 512, and resize the mask to it. scikit-learn itself is
not needed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from orchestrator.scoring.papers.own import at_half
from orchestrator.scoring.papers.score import Map, Mask, Program, Values, by_opencv, counted, is_polyp, over


def _by_pillow(mask: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    height, width = shape
    return np.asarray(Image.fromarray(mask).resize((width, height)))  # bicubic since Pillow 7


_GMSRF = Program(size=256, resize_mask=_by_pillow)
_COLONSEGNET = Program(size=512, resize_mask=by_opencv)
_MSRF = Program(size=256, resize_mask=by_opencv)


def _above_half(probabilities: Map, mask: Mask) -> Values:
    return counted(probabilities > 0.5, is_polyp(mask))


@_GMSRF.by_image
def dice_gmsrf(probabilities: Map, mask: Mask) -> float:
    """GMSRF-Net's F1 above 0.5, the mask resized to the map by Pillow; mean over images. Both empty is 0."""
    tp, fp, fn, _ = _above_half(probabilities, mask)
    return over(2 * tp, 2 * tp + fp + fn, empty=0.0)


@_GMSRF.by_image
def iou_gmsrf(probabilities: Map, mask: Mask) -> float:
    """GMSRF-Net's Jaccard above 0.5, the mask resized to the map by Pillow; mean over images. Both empty is 0."""
    tp, fp, fn, _ = _above_half(probabilities, mask)
    return over(tp, tp + fp + fn, empty=0.0)


@_GMSRF.by_image
def recall_gmsrf(probabilities: Map, mask: Mask) -> float:
    """GMSRF-Net's recall above 0.5, the mask resized to the map by Pillow; mean over images. No polyp is 0."""
    tp, _, fn, _ = _above_half(probabilities, mask)
    return over(tp, tp + fn, empty=0.0)


@_GMSRF.by_image
def precision_gmsrf(probabilities: Map, mask: Mask) -> float:
    """GMSRF-Net's precision above 0.5, the mask resized to the map by Pillow; mean over images. Nothing predicted is
    0.
    """
    tp, fp, _, _ = _above_half(probabilities, mask)
    return over(tp, tp + fp, empty=0.0)


@_COLONSEGNET.by_image
def dice_colonsegnet(probabilities: Map, mask: Mask) -> float:
    """ColonSegNet's F1 above 0.5, the mask resized to the map by OpenCV; mean over images. Both empty is 0."""
    tp, fp, fn, _ = _above_half(probabilities, mask)
    return over(2 * tp, 2 * tp + fp + fn, empty=0.0)


@_COLONSEGNET.by_image
def iou_colonsegnet(probabilities: Map, mask: Mask) -> float:
    """ColonSegNet's Jaccard above 0.5, the mask resized to the map by OpenCV; mean over images. Both empty is 0."""
    tp, fp, fn, _ = _above_half(probabilities, mask)
    return over(tp, tp + fp + fn, empty=0.0)


@_COLONSEGNET.by_image
def recall_colonsegnet(probabilities: Map, mask: Mask) -> float:
    """ColonSegNet's recall above 0.5, the mask resized to the map by OpenCV; mean over images. No polyp is 0."""
    tp, _, fn, _ = _above_half(probabilities, mask)
    return over(tp, tp + fn, empty=0.0)


@_COLONSEGNET.by_image
def precision_colonsegnet(probabilities: Map, mask: Mask) -> float:
    """ColonSegNet's precision above 0.5, the mask resized to the map by OpenCV; mean over images. Nothing predicted is
    1.
    """
    tp, fp, _, _ = _above_half(probabilities, mask)
    return over(tp, tp + fp, empty=1.0)


@_COLONSEGNET.by_image
def f2_colonsegnet(probabilities: Map, mask: Mask) -> float:
    """ColonSegNet's "F2": its script has beta 1, so it is Dice; mean over images. Both empty is 1."""
    tp, fp, fn, _ = _above_half(probabilities, mask)
    return over(2 * tp, 2 * tp + fp + fn, empty=1.0)


@_MSRF.by_image
def dice_msrf(probabilities: Map, mask: Mask) -> float:
    """MSRF-Net's Dice at 0.5: the only one of its columns that is a mean over images. Both empty is 1."""
    tp, fp, fn, _ = at_half(probabilities, mask)
    return over(2 * tp, 2 * tp + fp + fn, empty=1.0)


@_MSRF.of_set(at_half)
def iou_msrf(pixels: Values) -> float:
    """MSRF-Net's IoU at 0.5: all pixels of the set together, unlike its Dice by image. Both empty is 1."""
    tp, fp, fn, _ = pixels.sum(axis=0)
    return over(tp, tp + fp + fn, empty=1.0)


@_MSRF.of_set(at_half)
def recall_msrf(pixels: Values) -> float:
    """MSRF-Net's recall at 0.5: all pixels of the set together. No polyp in the set is nan."""
    tp, _, fn, _ = pixels.sum(axis=0)
    return over(tp, tp + fn, empty=np.nan)


@_MSRF.of_set(at_half)
def precision_msrf(pixels: Values) -> float:
    """MSRF-Net's precision at 0.5: all pixels of the set together. Nothing predicted in the set is nan."""
    tp, fp, _, _ = pixels.sum(axis=0)
    return over(tp, tp + fp, empty=np.nan)
