"""Numbers that look random and are the same everywhere: weights with which one code's logits are another's."""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor


def wave(key: str, shape: tuple[int, ...], gain: float) -> Tensor:
    """A tensor of that name and shape; kernels grow with `gain`, BatchNorm stays near what it does to nothing."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if key.endswith("gamma"):
        return torch.tensor([0.5])
    phase = torch.arange(math.prod(shape), dtype=torch.float64) * 12.9898 + zlib.crc32(key.encode()) % 9973
    x = torch.sin(phase).reshape(shape).float()
    if len(shape) > 1:
        return x * math.sqrt(gain / math.prod(shape[1:]))
    if key.endswith("running_var"):
        return 1 + 0.2 * x
    is_norm = key.endswith("weight")
    return 0.8 + 0.2 * x if is_norm else 0.1 * x


def wave_image() -> Tensor:
    """(1, 3, 64, 96) in [0, 1], float64"""
    return (wave("image", (1, 3, 64, 96), 1.0) * math.sqrt(3 * 64 * 96 / 4) + 0.5).double()
