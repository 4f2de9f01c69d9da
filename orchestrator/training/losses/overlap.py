"""Losses that count pixels, wherever in the image these are, and those that follow from the overlap."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PIXELS = (-2, -1)
# Weights of pixels wrongly taken as polyp, and of polyp that is missed.
FALSE_POSITIVE, FALSE_NEGATIVE = 0.3, 0.7
FOCUS = 4 / 3


def bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy of an image."""
    return cross_entropy(logits, mask).mean(PIXELS)


def mse(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of an image's probabilities."""
    return F.mse_loss(logits.sigmoid(), mask, reduction="none").mean(PIXELS)


def dice(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - (2 I + 1) / (P + M + 1), with I the overlap of probabilities and mask, P and M their sums."""
    probability = logits.sigmoid()
    overlap = (probability * mask).sum(PIXELS)
    return 1 - (2 * overlap + 1) / ((probability + mask).sum(PIXELS) + 1)


def iou(logits: Tensor, mask: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """1 - (I + 1) / (P + M - I + 1), every pixel with its weight."""
    probability = logits.sigmoid()
    overlap = (weight * probability * mask).sum(PIXELS)
    total = (weight * (probability + mask)).sum(PIXELS)
    return 1 - (overlap + 1) / (total - overlap + 1)


def bce_dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy plus Dice."""
    return bce(logits, mask) + dice(logits, mask)


def bce_iou(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy plus IoU."""
    return bce(logits, mask) + iou(logits, mask)


def bce_squared_dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy plus 1 - (2 I + 1) / (sum of squared P + M + 1), as in V-Net (arXiv:1606.04797)."""
    probability = logits.sigmoid()
    overlap = (probability * mask).sum(PIXELS)
    total = (probability.square() + mask.square()).sum(PIXELS)
    return bce(logits, mask) + 1 - (2 * overlap + 1) / (total + 1)


def tversky(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - (I + 1) / (I + 0.3 FP + 0.7 FN + 1): a missed pixel costs more than one too many, for a higher recall."""
    probability = logits.sigmoid()
    overlap = (probability * mask).sum(PIXELS)
    too_many = FALSE_POSITIVE * (probability * (1 - mask)).sum(PIXELS)
    missed = FALSE_NEGATIVE * ((1 - probability) * mask).sum(PIXELS)
    return 1 - (overlap + 1) / (overlap + too_many + missed + 1)


def focal_tversky(logits: Tensor, mask: Tensor) -> Tensor:
    """The Tversky loss to the power 3/4: images that are segmented well keep a steeper gradient."""
    smallest = 1e-6  # at zero the slope of the power is infinite
    return tversky(logits, mask).clamp(min=smallest) ** (1 / FOCUS)


def lovasz_hinge(logits: Tensor, mask: Tensor) -> Tensor:
    """The convex extension of 1 - IoU, on the hinge of each pixel's logit.

    Hinges max(0, 1 - logit x sign), largest first, each times the growth of 1 - IoU where its pixel, too, is wrong.
    """
    flat, truth = logits.flatten(-2), mask.flatten(-2)
    hinge, order = (1 - flat * (2 * truth - 1)).sort(dim=-1, descending=True)
    ordered = truth.gather(-1, order)
    polyp = truth.sum(-1, keepdim=True)
    left = polyp - ordered.cumsum(-1)
    together = polyp + (1 - ordered).cumsum(-1)
    jaccard = 1 - left / together
    growth = jaccard.diff(dim=-1, prepend=torch.zeros_like(polyp))
    return (hinge.relu() * growth).sum(-1)


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of every pixel, in the shape of the logits."""
    return F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
