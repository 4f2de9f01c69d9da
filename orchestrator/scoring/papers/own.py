"""The scores to report, and the same of all pixels together: at 0.5, a mask's pixels above 127, empties as in
metrics.py.
"""

from __future__ import annotations

from orchestrator.scoring.metrics import score
from orchestrator.scoring.papers.score import Map, Mask, Program, Values, counted, is_polyp

_OWN = Program()


def at_half(probabilities: Map, mask: Mask) -> Values:
    return counted(probabilities >= 0.5, is_polyp(mask))


@_OWN.by_image
def dice_image(probabilities: Map, mask: Mask) -> float:
    """Dice of each image at 0.5, mean over images. Both empty is 1."""
    return float(score("dice", *at_half(probabilities, mask)))


@_OWN.by_image
def iou_image(probabilities: Map, mask: Mask) -> float:
    """IoU of each image at 0.5, polyp only, mean over images. Both empty is 1."""
    return float(score("iou", *at_half(probabilities, mask)))


@_OWN.by_image
def precision_image(probabilities: Map, mask: Mask) -> float:
    """Precision of each image at 0.5, mean over images. Both empty is 1, nothing predicted on a polyp 0."""
    return float(score("precision", *at_half(probabilities, mask)))


@_OWN.by_image
def recall_image(probabilities: Map, mask: Mask) -> float:
    """Recall of each image at 0.5, mean over images. Both empty is 1, a false alarm 0."""
    return float(score("recall", *at_half(probabilities, mask)))


@_OWN.by_image
def f2_image(probabilities: Map, mask: Mask) -> float:
    """F-measure with beta 2 of each image at 0.5, mean over images. Both empty is 1."""
    return float(score("f2", *at_half(probabilities, mask)))


@_OWN.by_image
def accuracy_image(probabilities: Map, mask: Mask) -> float:
    """Share of right pixels of each image at 0.5, mean over images."""
    return float(score("accuracy", *at_half(probabilities, mask)))


@_OWN.of_set(at_half)
def dice_pixels(pixels: Values) -> float:
    """Dice at 0.5 of all pixels of the set together. Nothing there and nothing predicted in the whole set is 1."""
    return float(score("dice", *pixels.sum(axis=0)))


@_OWN.of_set(at_half)
def iou_pixels(pixels: Values) -> float:
    """IoU at 0.5 of all pixels of the set together, polyp only."""
    return float(score("iou", *pixels.sum(axis=0)))


@_OWN.of_set(at_half)
def precision_pixels(pixels: Values) -> float:
    """Precision at 0.5 of all pixels of the set together."""
    return float(score("precision", *pixels.sum(axis=0)))


@_OWN.of_set(at_half)
def recall_pixels(pixels: Values) -> float:
    """Recall at 0.5 of all pixels of the set together."""
    return float(score("recall", *pixels.sum(axis=0)))


@_OWN.of_set(at_half)
def f2_pixels(pixels: Values) -> float:
    """F-measure with beta 2 at 0.5 of all pixels of the set together."""
    return float(score("f2", *pixels.sum(axis=0)))


@_OWN.of_set(at_half)
def accuracy_pixels(pixels: Values) -> float:
    """Share of right pixels at 0.5 of the whole set."""
    return float(score("accuracy", *pixels.sum(axis=0)))
