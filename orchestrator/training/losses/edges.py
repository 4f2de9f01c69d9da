"""Losses in which pixels near the edge of a polyp count for more, or the edges themselves."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from orchestrator.scoring.distances import TOLERANCE
from orchestrator.training.losses.overlap import PIXELS, bce, bce_dice, cross_entropy, dice, iou

# Numbers in memory at a time while distances are computed.
AT_A_TIME = 2**24


def structure(logits: Tensor, mask: Tensor) -> Tensor:
    """Weighted binary cross-entropy plus weighted IoU."""
    weight = edge_weight(mask)
    return _weighted_mean(cross_entropy(logits, mask), weight) + iou(logits, mask, weight)


def structure_unweighted_bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy plus weighted IoU."""
    return bce(logits, mask) + iou(logits, mask, edge_weight(mask))


def structure_pixel_iou(logits: Tensor, mask: Tensor) -> Tensor:
    """Weighted mean over pixels of cross-entropy + 1 - (p m + 1) / (p + m - p m + 1), p the probability."""
    probability = logits.sigmoid()
    overlap = probability * mask
    pixel_iou = 1 - (overlap + 1) / (probability + mask - overlap + 1)
    return _weighted_mean(cross_entropy(logits, mask) + pixel_iou, edge_weight(mask))


def dice_boundary(logits: Tensor, mask: Tensor) -> Tensor:
    """Dice plus the mean over pixels of error times distance to the mask's edge, as a share of the side.

    The integral of the paper less its value for the mask itself, which is constant. Masks without an edge have
    distances of zero.
    """
    wrong = (logits.sigmoid() - mask).abs()
    distance = edge_distance(mask[:, :1]) / max(mask.shape[-2:])
    return dice(logits, mask) + (wrong * distance).mean(PIXELS)


def bce_dice_boundary_f1(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy, plus Dice, plus one minus the soft F1 of outlines, with the tolerance of NSD."""
    return bce_dice(logits, mask) + 1 - boundary_f1(logits.sigmoid(), mask)


def boundary_f1(probability: Tensor, mask: Tensor) -> Tensor:
    """2 P R / (P + R): shares of either outline that lie near the other, one pixel added to both parts.

    Near: within a square whose half side is the tolerance of the scores, 3 pixels at 256 x 256.
    """
    reach = max(1, round(TOLERANCE * math.hypot(*mask.shape[-2:])))
    drawn, true = outline(probability), outline(mask)
    precision = ((drawn * _widened(true, reach)).sum(PIXELS) + 1) / (drawn.sum(PIXELS) + 1)
    recall = ((true * _widened(drawn, reach)).sum(PIXELS) + 1) / (true.sum(PIXELS) + 1)
    return 2 * precision * recall / (precision + recall)


def _widened(line: Tensor, reach: int) -> Tensor:
    return F.max_pool2d(line, 2 * reach + 1, stride=1, padding=reach)


def outline(mask: Tensor) -> Tensor:
    """mask (B, K, H, W) in {0, 1} -> pixels that touch background, also at corners; the border is none.

    Of probabilities, their fall from a pixel to its lowest neighbour.
    Canny's method on a mask gives the same line, on some sides one pixel further out.
    """
    rest = 1 - mask
    return F.max_pool2d(rest, 3, stride=1, padding=1) - rest


def edge_weight(mask: Tensor) -> Tensor:
    """mask (B, K, H, W), the same for all K -> weights (B, 1, H, W) in 1..6.

    A pixel weighs more where it differs from the 31 x 31 pixels around it; outside the image is no polyp.
    """
    one = mask[:, :1]
    # The mean of a square is the mean of its rows' means: 62 additions for each pixel, not 961.
    rows = F.avg_pool2d(one, (1, 31), stride=1, padding=(0, 15))
    around = F.avg_pool2d(rows, (31, 1), stride=1, padding=(15, 0))
    return 1 + 5 * (around - one).abs()


def edge_distance(mask: Tensor) -> Tensor:
    """mask (B, 1, H, W) -> distance in pixels of each pixel's center to the polyp's edge; zeros where there is no edge.

    A pixel's distance to the nearest pixel of the other kind, less one half.
    """
    with torch.no_grad():
        to_polyp, to_rest = distance_to(mask), distance_to(1 - mask)
        has_edge = mask.amax((-2, -1), keepdim=True) > mask.amin((-2, -1), keepdim=True)
        return torch.where(has_edge, to_polyp + to_rest - 0.5, 0)


def distance_to(mask: Tensor) -> Tensor:
    """mask (B, 1, H, W) in {0, 1} -> Euclidean distance to the nearest pixel that is 1, on the mask's device.

    Exact. Arbitrarily large where no pixel is 1.
    """
    if mask.device.type != "cpu":
        return all_pairs_distance_to(mask)
    kinds = (mask < 0.5).to(torch.uint8).flatten(0, 1).numpy()
    distances = [cv2.distanceTransform(kind, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for kind in kinds]
    return torch.from_numpy(np.stack(distances)).to(mask.dtype).view(mask.shape)


def all_pairs_distance_to(mask: Tensor) -> Tensor:
    """`distance_to` without a transfer to the CPU, on which OpenCV is seventy times as fast.

    First along columns, then along rows, as Felzenszwalb and Huttenlocher (2012, Theory of Computing, 8:415), but all
    pairs of pixels in a row are compared: W^3 operations an image.
    """
    width = mask.shape[-1]
    squared = _along_columns(mask).square().flatten(0, 2)
    place = torch.arange(width, device=mask.device, dtype=mask.dtype)
    apart = (place[:, None] - place).square()
    rows = [(part[:, None] + apart).amin(-1) for part in squared.split(max(1, AT_A_TIME // width**2))]
    return torch.cat(rows).sqrt().view(mask.shape)


def _along_columns(mask: Tensor) -> Tensor:
    """Distance to the nearest 1 of the same column."""
    height = mask.shape[-2]
    far = 2.0 * sum(mask.shape[-2:])
    row = torch.arange(height, device=mask.device, dtype=mask.dtype)[:, None]
    above = row - torch.where(mask > 0, row, -far).cummax(-2).values
    below = torch.where(mask > 0, row, far + height).flip(-2).cummin(-2).values.flip(-2) - row
    return torch.minimum(above, below)


def _weighted_mean(x: Tensor, weight: Tensor) -> Tensor:
    return (weight * x).sum(PIXELS) / weight.sum(PIXELS)
