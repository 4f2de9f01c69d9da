"""The U-Net baseline of two polyp papers: ResUNet++ (Jha et al., arXiv:1911.07067) and its depth-wise separable
successor at MediaEval 2020, which prints its size.

Follows their Keras code, since neither paper describes it. It differs from U-Net (arXiv:1505.04597) in more than its
widths of 16 to 256: convolutions keep the size and have bias and BatchNorm; the bottom has two blocks; every
transposed convolution is a 3x3 to the same number of channels, that of the last skip; BatchNorm scales the logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orchestrator.models.blocks import (
    activated_conv,
    check_multiple,
    check_size,
    conv3,
    doubling_conv3,
    like_keras,
)
from orchestrator.models.registry import register

STRIDE = 16


def block(in_channels: int, channels: int) -> nn.Sequential:
    """Twice conv3, BatchNorm, ReLU."""
    return nn.Sequential(
        conv3(in_channels, channels),
        activated_conv(channels, channels),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class UNetMediaEval(nn.Module):
    """Four levels down, two blocks at the bottom, four levels up."""

    def __init__(self, base_channels: int) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(4)]
        up = widths[-1]
        bottom = 2 * up
        self.encoder = nn.ModuleList(block(i, o) for i, o in zip([3, *widths], widths, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.bottom = nn.Sequential(block(up, bottom), block(bottom, bottom))
        self.ups = nn.ModuleList(doubling_conv3(i, up) for i in (bottom, *reversed(widths[1:])))
        self.decoder = nn.ModuleList(block(up + width, width) for width in reversed(widths))
        self.head = nn.Sequential(nn.Conv2d(base_channels, 1, 1), nn.BatchNorm2d(1))
        like_keras(self)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 16 -> logits (B, 1, H, W)"""
        check_size(image, STRIDE)
        skips = []
        x = image
        for level in self.encoder:
            skips.append(level(x))
            x = self.pool(skips[-1])
        x = self.bottom(x)
        for up, level, skip in zip(self.ups, self.decoder, reversed(skips), strict=True):
            x = level(torch.cat([up(x), skip], dim=1))
        return (self.head(x),)


@register(
    stride=STRIDE,
    paper="Jha et al., arXiv:1911.07067",
    published=3_588_997,
    published_in="Ali et al., MediaEval 2020, Table 2",
)
def unet_mediaeval(*, base_channels: int = 16) -> UNetMediaEval:
    """The smaller U-Net baseline of the ResUNet++ papers.

    base_channels: channels at full size, doubled at each of four halvings.
    """
    check_multiple("base_channels", base_channels)
    return UNetMediaEval(base_channels)
