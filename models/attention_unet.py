"""Attention U-Net on the brain-MRI U-Net, as transferred to polyps by a MediaEval 2020 paper; gates as in
Oktay et al. (arXiv:1804.03999), one on every skip.

Where the paper and its authors' code differ, variant="paper" (the default) and variant="code" are:
- a gate takes the map of the coarser level, compares at its size, and upsamples the result, as in the figure
  that the paper takes from Oktay et al. | takes the upsampled map, and resamples nothing;
- pixels: in [-1, 1] | normalized like ImageNet;
- concatenation: upsampled map, then skip | skip, then upsampled map.
The last one is a pitfall. The brain-MRI network was trained with the first order, so with variant="code" its weights
get the two halves swapped, in all four levels of the decoder. The published numbers were obtained this way.
The paper gives no sizes: gates have half of their skip's channels, as in the code, which has 7,851,773 parameters.
The paper's gates are those of Oktay et al.: 2x2 with stride 2 on the skip, without bias, 1x1 elsewhere, no BatchNorm,
nothing after the product. Their larger kernels on the skip, and wider input maps, add 2.2 %: 8,024,645.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestrator.models.blocks import ImageNetNormalize, check_multiple, check_size, resize
from orchestrator.models.published_weights import load_published
from orchestrator.models.registry import register
from orchestrator.models.unet import STRIDE, UNet

BRAIN_MRI_CHANNELS = 32


class Gate(nn.Module):
    """Attention weights for every position of a skip, from the coarser level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look_at_skip = nn.Conv2d(channels, channels // 2, 2, stride=2, bias=False)
        self.look_at_deep = nn.Conv2d(2 * channels, channels // 2, 1)
        self.weigh = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(channels // 2, 1, 1), nn.Sigmoid())

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """skip (B, channels, 2h, 2w), deep (B, 2 * channels, h, w) -> (B, channels, 2h, 2w)"""
        weight = self.weigh(self.look_at_skip(skip) + self.look_at_deep(deep))
        return skip * resize(weight, like=skip)


class GateAtFullSize(nn.Module):
    """Attention weights for every position of a skip, from a map of equal size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look_at_skip, self.look_at_deep = (self._look(channels, channels // 2) for _ in range(2))
        self.weigh = nn.Sequential(self._look(channels // 2, 1), nn.Sigmoid())

    @staticmethod
    def _look(in_channels: int, channels: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(in_channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """skip and deep (B, channels, h, w) -> (B, channels, h, w)"""
        return skip * self.weigh(F.relu(self.look_at_skip(skip) + self.look_at_deep(deep)))


class AttentionUNet(nn.Module):
    """A U-Net with attention gates on its skips."""

    def __init__(self, base_channels: int, *, as_code: bool) -> None:
        super().__init__()
        self.as_code = as_code
        self.normalize = ImageNetNormalize()
        self.unet = UNet(base_channels)
        gate = GateAtFullSize if as_code else Gate
        self.gates = nn.ModuleList(gate(base_channels * 2**level) for level in (3, 2, 1, 0))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 16 -> logits (B, 1, H, W)"""
        check_size(image, STRIDE)
        x, *skips = self.unet.levels(self.normalize(image) if self.as_code else 2 * image - 1)
        blocks: list[Any] = list(self.unet.decoder)
        for block, gate, skip in zip(blocks, self.gates, skips, strict=True):
            up = block.up(x)
            halves = [gate(skip, up), up] if self.as_code else [up, gate(skip, x)]
            x = block.convs(torch.cat(halves, dim=1))
        return (self.unet.head(x),)


@register(stride=STRIDE, paper="Attention U-Net by transfer (MediaEval 2020)")
def attention_unet(
    *, base_channels: int = 32, weights: str | None = None, variant: Literal["paper", "code"] = "paper"
) -> AttentionUNet:
    """Attention U-Net: a U-Net with gated skips.

    base_channels: channels at full size, doubled at each of four halvings; even. The paper has 32.
    weights: file of the brain-MRI U-Net to start from, as in the paper: unet-e012d006.pt, release v1.0 of
    mateuszbuda/brain-segmentation-pytorch. It contains everything but the gates, and requires base_channels = 32.
    variant: see the module.
    """
    check_multiple("base_channels", base_channels, of=2)
    if variant not in ("paper", "code"):
        raise ValueError(f"variant must be 'paper' or 'code', got {variant!r}")
    if weights is not None and base_channels != BRAIN_MRI_CHANNELS:
        raise ValueError(f"weights of the brain-MRI U-Net need base_channels = 32, got {base_channels}")
    network = AttentionUNet(base_channels, as_code=variant == "code")
    if weights is not None:
        network.unet.load_state_dict(load_published("unet", weights).state_dict())
    return network
