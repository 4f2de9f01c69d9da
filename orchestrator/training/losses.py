"""Losses by name, on logits. Each is computed per image and then averaged over images, so the mean of what
equally loaded workers see is the loss of the whole batch.

bce                       binary cross-entropy, mean over pixels
mse                       squared error of the probabilities, mean over pixels
dice, iou                 one minus the soft overlap, one pixel added to both parts of the fraction
bce_dice, bce_iou         their sums
structure                 weighted BCE + weighted IoU, as in PraNet's paper: pixels near an edge weigh more
structure_unweighted_bce  the same with plain BCE: what PraNet's published code, and code after it, computes
structure_pixel_iou       weighted BCE + IoU of single pixels, averaged with the same weights: UACANet's
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[tuple[Tensor, ...], Tensor], Tensor]
# logits (B, K, H, W) of K outputs and their mask (B, K, H, W), both float32 -> (B, K)
PerImage = Callable[[Tensor, Tensor], Tensor]

PIXELS = (-2, -1)


def segmentation_loss(name: str) -> Loss:
    """Return the loss of that name; ValueError for an unknown one.

    It takes a tuple of logits (B, 1, H, W) and a mask (B, 1, H, W) in {0, 1}, and returns a float32 scalar:
    the sum over outputs, with equal weight, of the mean over images. Logits of any precision are taken to
    float32 first. Refused: outputs of another shape than the mask.
    """
    if name not in _LOSSES:
        raise ValueError(f"no loss is named {name!r}; known: {', '.join(sorted(_LOSSES))}")
    per_image = _LOSSES[name]

    def loss(outputs: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        if any(output.shape != mask.shape for output in outputs):  # else a mask would be broadcast in silence
            shapes = [tuple(output.shape) for output in outputs]
            raise ValueError(f"outputs {shapes} do not have the shape of the mask, {tuple(mask.shape)}")
        logits = torch.cat([output.float() for output in outputs], dim=1)
        return per_image(logits, mask.float().expand_as(logits)).sum(dim=1).mean()

    return loss


def bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy of an image."""
    return _cross_entropy(logits, mask).mean(PIXELS)


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


def structure(logits: Tensor, mask: Tensor) -> Tensor:
    """Weighted binary cross-entropy plus weighted IoU."""
    weight = edge_weight(mask)
    return _weighted_mean(_cross_entropy(logits, mask), weight) + iou(logits, mask, weight)


def structure_unweighted_bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy plus weighted IoU."""
    return bce(logits, mask) + iou(logits, mask, edge_weight(mask))


def structure_pixel_iou(logits: Tensor, mask: Tensor) -> Tensor:
    """Weighted mean over pixels of cross-entropy + 1 - (p m + 1) / (p + m - p m + 1), p the probability."""
    probability = logits.sigmoid()
    overlap = probability * mask
    pixel_iou = 1 - (overlap + 1) / (probability + mask - overlap + 1)
    return _weighted_mean(_cross_entropy(logits, mask) + pixel_iou, edge_weight(mask))


def edge_weight(mask: Tensor) -> Tensor:
    """mask (B, K, H, W), the same for all K -> weights (B, 1, H, W) in 1..6

    A pixel weighs more where it differs from the 31 x 31 pixels around it; outside the image is no polyp.
    """
    one = mask[:, :1]
    # The mean of a square is the mean of its rows' means: 62 additions for each pixel, not 961.
    rows = F.avg_pool2d(one, (1, 31), stride=1, padding=(0, 15))
    around = F.avg_pool2d(rows, (31, 1), stride=1, padding=(15, 0))
    return 1 + 5 * (around - one).abs()


def _weighted_mean(x: Tensor, weight: Tensor) -> Tensor:
    return (weight * x).sum(PIXELS) / weight.sum(PIXELS)


def _cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, mask, reduction="none")


_LOSSES: dict[str, PerImage] = {
    loss.__name__: loss
    for loss in (
        bce,
        mse,
        dice,
        iou,
        bce_dice,
        bce_iou,
        structure,
        structure_unweighted_bce,
        structure_pixel_iou,
    )
}
