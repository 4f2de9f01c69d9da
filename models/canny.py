"""Canny's edges (Canny, IEEE TPAMI 8(6), 1986) as tensor operations, which run and are exported with a network.

Equal, step by step, to OpenCV's `cv2.Canny` with its defaults: Sobel 3x3, sum of absolute derivatives.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# tan(22.5 degrees) in 15 binary places, so that directions are compared in integers.
TAN_22 = 13573
SHIFT = 15
NUM_ROUNDS = 8  # 6 connect all edges of polyp images of 352 pixels


def canny(image: Tensor, low: int, high: int) -> Tensor:
    """image (B, C, H, W) in [0, 1] -> edges (B, 1, H, W) in {0, 1}, float32

    low, high: thresholds on gradients of an image in 0..255; an edge is above low and connected with a pixel above
    high. No gradient flows through.
    """
    dx, dy = _strongest(*_sobel(image))
    size = dx.abs() + dy.abs()
    thin = _ridge(size, dx, dy) & (size > low)
    return _hang_together(thin.float(), (thin & (size > high)).float())


def _hang_together(thin: Tensor, strong: Tensor) -> Tensor:
    """thin and strong (B, 1, H, W) in {0, 1} -> the 8-connected components of thin with a strong pixel
    Every pixel points to one of its component, finally all to the same. As in FastSV (Zhang et al., arXiv:1910.05971)
    the largest neighboring number is propagated to the target, then all follow their pointers.
    """
    height, width = thin.shape[-2:]
    number = torch.arange(1, height * width + 1, device=thin.device, dtype=torch.float32)
    pointer = (number.view(1, 1, height, width) * thin).flatten(1)  # 0 is not a pixel, and points to itself
    for _ in range(NUM_ROUNDS):
        neighbor = F.max_pool2d(pointer.view_as(thin), 3, stride=1, padding=1) * thin
        table = F.pad(pointer, (1, 0)).scatter_reduce(1, pointer.long(), neighbor.flatten(1), "amax")
        table = F.pad(torch.maximum(table[:, 1:], neighbor.flatten(1)), (1, 0))
        table = table.gather(1, table.long())
        pointer = table.gather(1, table.long())[:, 1:]
    has_strong = torch.zeros_like(F.pad(pointer, (1, 0)))
    has_strong = has_strong.scatter_reduce(1, pointer.long(), strong.flatten(1), "amax")
    return has_strong.gather(1, pointer.long()).view_as(thin) * thin


def _sobel(image: Tensor) -> tuple[Tensor, Tensor]:
    """image (B, C, H, W) -> derivatives along x and along y, each (B, C, H, W) in -1020..1020, int32"""
    padded = F.pad(255 * image.float(), (1, 1, 1, 1), mode="replicate").round().int()
    along_y = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    along_x = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    return along_y[..., 2:] - along_y[..., :-2], along_x[..., 2:, :] - along_x[..., :-2, :]


def _strongest(dx: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """The channel with the largest gradient, pixel by pixel: (B, C, H, W) -> (B, 1, H, W)"""
    channel = (dx.abs() + dy.abs()).argmax(dim=1, keepdim=True)
    return dx.gather(1, channel), dy.gather(1, channel)


def _ridge(size: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Whether the gradient is larger than on both sides of it: (B, 1, H, W), bool"""
    padded = F.pad(size, (1, 1, 1, 1))
    height, width = size.shape[-2:]

    def neighbor(down: int, right: int) -> Tensor:
        return padded[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    run = dx.abs() * TAN_22
    rise = dy.abs() * 2**SHIFT
    flat = rise < run
    steep = rise > run + dx.abs() * 2 ** (SHIFT + 1)  # tan(67.5 degrees) is tan(22.5 degrees) plus 2
    rising = (dx < 0) ^ (dy < 0)
    across_x = (size > neighbor(0, -1)) & (size >= neighbor(0, 1))
    across_y = (size > neighbor(-1, 0)) & (size >= neighbor(1, 0))
    across_falling = (size > neighbor(-1, -1)) & (size > neighbor(1, 1))
    across_rising = (size > neighbor(-1, 1)) & (size > neighbor(1, -1))
    diagonal = (rising & across_rising) | (~rising & across_falling)
    return (flat & across_x) | (steep & across_y) | (~flat & ~steep & diagonal)
