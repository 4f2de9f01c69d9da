"""Pretrained parts that keep their weights, with small trained parts inside them.

The weights of a frozen part are parameters that ask for no gradient: they are counted, saved, exported and resumed like
all others, and no optimizer gets them. The part stays in evaluation mode while the network around it trains, so that
its normalization has the statistics it was trained with, and nothing is dropped.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization


class Frozen(nn.Module):
    """A part without training; what is put into it later trains, in evaluation mode as well."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """The output of the frozen part for x."""
        return self.body(x)


class Adapted(nn.Module):
    """A block of channels-last tokens with an adapter before it: a narrow layer whose result is added to the input."""

    def __init__(self, block: nn.Module, channels: int, width: int) -> None:
        super().__init__()
        self.block = block
        self.adapter = nn.Sequential(
            nn.Linear(channels, width), nn.GELU(), nn.Linear(width, channels), nn.GELU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) -> what the block gives"""
        return self.block(x + self.adapter(x))


class LowRank(nn.Module):
    """A trained change of a matrix, zero at first: the product of two narrow ones (LoRA, arXiv:2106.09685)."""

    def __init__(self, matrix: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = matrix.shape
        self.down = nn.Parameter(torch.randn(rank, columns, device=matrix.device) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank, device=matrix.device))

    def forward(self, matrix: Tensor) -> Tensor:
        """(rows, columns) -> (rows, columns)"""
        return matrix + self.up @ self.down


def add_low_rank(body: nn.Module, rank: int) -> int:
    """Give every linear layer of attention in `body` a change of that rank, in place; returns how many there were."""
    layers = [
        module
        for name, module in body.named_modules()
        if isinstance(module, nn.Linear) and "attn" in name.split(".")
    ]
    for layer in layers:
        register_parametrization(layer, "weight", LowRank(layer.weight, rank))
    return len(layers)
