"""U-Net with BatchNorm (Ronneberger et al., arXiv:1505.04597), in the layout of the widely used brain-MRI U-Net.

Five widths, each twice the one before. Differs from the paper: convolutions keep the size, so nothing is
cropped; BatchNorm after every one of them; the skip comes second in each concatenation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orchestrator.models.blocks import check_multiple, check_size, double_conv
from orchestrator.models.published_weights import publish
from orchestrator.models.registry import register

STRIDE = 16


class UpBlock(nn.Module):
    """Upsampling, concatenation with the skip, two convolutions."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, channels, 2, stride=2)
        self.convs = double_conv(2 * channels, channels)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """deep (B, in_channels, h, w), skip (B, channels, 2h, 2w) -> (B, channels, 2h, 2w)"""
        return self.convs(torch.cat([self.up(deep), skip], dim=1))


class UNet(nn.Module):
    """An encoder of five levels and a decoder of four, joined by skips."""

    def __init__(self, base_channels: int) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(5)]
        self.encoder = nn.ModuleList(double_conv(i, o) for i, o in zip([3, *widths], widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.decoder = nn.ModuleList(UpBlock(2 * width, width) for width in reversed(widths[:-1]))
        self.head = nn.Conv2d(base_channels, 1, 1)

    def levels(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> five maps (B, base_channels * 2**i, H / 2**i, W / 2**i), the deepest first"""
        first, *deeper = self.encoder
        levels = [first(image)]
        for level in deeper:
            levels.append(level(self.pool(levels[-1])))
        return levels[::-1]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 16 -> logits (B, 1, H, W)"""
        check_size(image, STRIDE)
        x, *skips = self.levels(image)
        for up, skip in zip(self.decoder, skips, strict=True):
            x = up(x, skip)
        return (self.head(x),)


@register(stride=STRIDE, paper="Ronneberger et al., arXiv:1505.04597")
def unet(*, base_channels: int = 64) -> UNet:
    """U-Net with BatchNorm; base_channels 64 is the original's size, 32 the brain-MRI network's."""
    check_multiple("base_channels", base_channels)
    return UNet(base_channels)


def _brain_mri_names() -> dict[str, str]:
    blocks = {f"encoder.{level}": f"encoder{level + 1}.enc{level + 1}" for level in range(4)}
    blocks |= {"encoder.4": "bottleneck.bottleneck"}
    blocks |= {f"decoder.{4 - level}.convs": f"decoder{level}.dec{level}" for level in (4, 3, 2, 1)}
    names = {
        f"{ours}.{number}.{i}": f"{theirs}{part}{number + 1}"
        for ours, theirs in blocks.items()
        for number in range(2)
        for i, part in enumerate(("conv", "norm"))
    }
    return names | {f"decoder.{4 - level}.up": f"upconv{level}" for level in (4, 3, 2, 1)} | {"head": "conv"}


publish("unet", source="mateuszbuda/brain-segmentation-pytorch", names=_brain_mri_names(), base_channels=32)
