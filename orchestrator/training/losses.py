"""Losses by name, on logits. Each is computed per image and then averaged over images, so the mean of what
equally loaded workers see is the loss of the whole batch.

bce                       binary cross-entropy, mean over pixels
mse                       squared error of the probabilities, mean over pixels
dice, iou                 one minus the soft overlap, one pixel added to both parts of the fraction
bce_dice, bce_iou         their sums
bce_squared_dice          with squares in the lower part of Dice's fraction
structure                 weighted BCE + weighted IoU, as in PraNet's paper: pixels near an edge weigh more
structure_unweighted_bce  the same with plain BCE: what PraNet's published code, and code after it, computes
structure_pixel_iou       weighted BCE + IoU of single pixels, averaged with the same weights: UACANet's
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from orchestrator.common.names import require_entries
from orchestrator.models import Supervision
from orchestrator.training.recipe import LossName

Loss = Callable[[tuple[Tensor, ...], Tensor], Tensor]
# logits (B, K, H, W) of K outputs and their mask (B, K, H, W), both float32 -> (B, K)
PerImage = Callable[[Tensor, Tensor], Tensor]

PIXELS = (-2, -1)


def segmentation_loss(name: str, supervision: Sequence[Supervision] = ()) -> Loss:
    """Return the loss of that name; ValueError for an unknown one.

    It takes a tuple of logits (B, 1, H, W) and a mask (B, 1, H, W) in {0, 1}, and returns a float32 scalar: the sum
    over outputs of the mean over images. Logits of any precision are taken to float32 first. Refused: outputs of
    another shape than the mask, or of another number than `supervision`.

    supervision: what each output is trained on, and its weight; by default all on the mask with weight 1. An outline is
    always trained with binary cross-entropy.
    """
    if name not in LOSSES:
        raise ValueError(f"no loss is named {name!r}; known: {', '.join(sorted(LOSSES))}")
    per_image = LOSSES[name]

    def loss(outputs: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        if any(output.shape != mask.shape for output in outputs):  # else a mask would be broadcast in silence
            shapes = [tuple(output.shape) for output in outputs]
            raise ValueError(f"outputs {shapes} do not have the shape of the mask, {tuple(mask.shape)}")
        targets = supervision or [Supervision()] * len(outputs)
        if len(targets) != len(outputs):
            raise ValueError(f"{len(outputs)} outputs, but supervision for {len(targets)}")
        on_mask, on_outline = (
            [
                (output, part.weight)
                for output, part in zip(outputs, targets, strict=True)
                if part.of == target
            ]
            for target in ("mask", "outline")
        )
        total = _weighted(per_image, on_mask, mask.float())
        return total + _weighted(bce, on_outline, outline(mask.float())) if on_outline else total

    return loss


def _weighted(per_image: PerImage, outputs: list[tuple[Tensor, float]], target: Tensor) -> Tensor:
    logits = torch.cat([output.float() for output, _ in outputs], dim=1)
    losses = per_image(logits, target.expand_as(logits)).mean(dim=0)
    return torch.stack([weight * loss for loss, (_, weight) in zip(losses, outputs, strict=True)]).sum()


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


def bce_squared_dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy plus 1 - (2 I + 1) / (sum of squared P + M + 1), as in V-Net (arXiv:1606.04797)."""
    probability = logits.sigmoid()
    overlap = (probability * mask).sum(PIXELS)
    total = (probability.square() + mask.square()).sum(PIXELS)
    return bce(logits, mask) + 1 - (2 * overlap + 1) / (total + 1)


def outline(mask: Tensor) -> Tensor:
    """mask (B, 1, H, W) in {0, 1} -> its pixels that touch background, over corners too; the image's border is none

    Canny's method on a mask gives the same line, on some sides one pixel further out.
    """
    return mask * F.max_pool2d(1 - mask, 3, stride=1, padding=1)


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


LOSSES: dict[str, PerImage] = {
    loss.__name__: loss
    for loss in (
        bce,
        mse,
        dice,
        iou,
        bce_dice,
        bce_iou,
        bce_squared_dice,
        structure,
        structure_unweighted_bce,
        structure_pixel_iou,
    )
}
require_entries(LOSSES, get_args(LossName), "losses")
