"""Losses by name, on logits. Each is computed per image and then averaged over images, so the mean of what
equally loaded workers see is the loss of the whole batch.

bce                       binary cross-entropy, mean over pixels
mse                       squared error of the probabilities, mean over pixels
dice, iou                 one minus the soft overlap, one pixel added to both parts of the fraction
bce_dice, bce_iou         their sums
bce_squared_dice          BCE + Dice with squares in the lower part of its fraction, as in V-Net (arXiv:1606.04797)
structure                 weighted BCE + weighted IoU, as in PraNet's paper: pixels near an edge weigh more
structure_unweighted_bce  the same with plain BCE: what PraNet's published code, and code after it, computes
structure_pixel_iou       weighted BCE + IoU of single pixels, averaged with the same weights: UACANet's
tversky                   one minus the Tversky index of weights 0.3 and 0.7 (Salehi et al., 2017, arXiv:1706.05721)
focal_tversky             the same to the power 3/4 (Abraham and Khan, 2018, arXiv:1810.07842)
lovasz_hinge              the convex surrogate of 1 - IoU (Berman et al., 2018, arXiv:1705.08790)
dice_boundary             Dice + distances of wrong pixels to the edge (Kervadec et al., 2019, arXiv:1812.07032)
bce_dice_boundary_f1      BCE + Dice + F1 of outlines (Bokhovkin and Burnaev, 2019, arXiv:1905.07852): near to NSD

Weights and tolerances are the papers', and constants: names are searched, not numbers. Differs from the papers: one
pixel is added to both parts of a fraction; the boundary loss is weighted by distance / side, constant over training,
where Kervadec et al. let a weight grow with the epochs; the F1 of outlines is added to BCE + Dice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import torch
from torch import Tensor

from orchestrator.common.names import require_entries
from orchestrator.models import Supervision
from orchestrator.training.losses.edges import (
    bce_dice_boundary_f1,
    dice_boundary,
    outline,
    structure,
    structure_pixel_iou,
    structure_unweighted_bce,
)
from orchestrator.training.losses.overlap import (
    bce,
    bce_dice,
    bce_iou,
    bce_squared_dice,
    dice,
    focal_tversky,
    iou,
    lovasz_hinge,
    mse,
    tversky,
)
from orchestrator.training.recipe import LossName

Loss = Callable[[tuple[Tensor, ...], Tensor], Tensor]
# logits (B, K, H, W) of K outputs and their mask (B, K, H, W), both float32 -> (B, K)
PerImage = Callable[[Tensor, Tensor], Tensor]


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
        tversky,
        focal_tversky,
        lovasz_hinge,
        dice_boundary,
        bce_dice_boundary_f1,
    )
}
require_entries(LOSSES, get_args(LossName), "losses")
