"""ResUNet (Zhang et al., arXiv:1711.10684): a U-Net of pre-activated residual blocks that halves by stride.

The polyp paper that compares with it (arXiv:1911.07067) describes Zhang's network; the file next to its code is another
one, which ends in a NameError. variant="paper" (the default) is Zhang's; variant="code" is that file, corrected:
- widths: base_channels, 64, times 1, 2, 4 and 8 | 16, times 1, 2, 4, 6 and 8, one level deeper;
- blocks: two conv3 | 1x1, conv3, 1x1;
- halving: by a strided conv3 | by max pooling; the deepest level has one block | two;
- doubling: nearest neighbor | conv3 transposed, always to 6 * base_channels channels;
- the last 1x1 ends in logits | in BatchNorm, then logits.
Zhang's text does not say how a block's input is added to more channels: here with 1x1 and BatchNorm, as is usual. The
7.8 M parameters it prints are only those of the conv3 kernels, 7,780,032; biases, BatchNorm and these 1x1 are the
rest of our 8,223,809. A later paper (ColonSegNet's) prints 8,420,077 without saying of what.
resunet_mod is the same network, trained with Dice loss where resunet has the mean squared error.
BatchNorm constants, initial weights and the padding of strided and transposed convolutions are those of Keras.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from orchestrator.models.blocks import (
    Residual,
    activated_conv,
    check_multiple,
    check_size,
    doubling_conv3,
    like_keras,
    projection,
    residual_stem,
    residual_unit,
)
from orchestrator.models.registry import register

STRIDE = 16  # valid for both variants; the paper's alone could take 8

Variant = Literal["paper", "code"]


class UpBlock(nn.Module):
    """Upsampling, concatenation with the skip, convolution."""

    def __init__(self, up: nn.Module, residual: Residual) -> None:
        super().__init__()
        self.up = up
        self.residual = residual

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """deep (B, C, h, w), skip (B, skip_channels, 2h, 2w) -> (B, channels, 2h, 2w)"""
        return self.residual(torch.cat([self.up(deep), skip], dim=1))


class ResUNet(nn.Module):
    """An encoder with a skip at every level, a bridge, and a decoder that uses the skips."""

    def __init__(
        self, encoder: list[nn.Module], bridge: nn.Module, decoder: list[UpBlock], head: nn.Module
    ) -> None:
        super().__init__()
        self.stride = 2 ** len(encoder)
        self.encoder = nn.ModuleList(encoder)
        self.bridge = bridge
        self.decoder = nn.ModuleList(decoder)
        self.head = head
        like_keras(self)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1] -> logits (B, 1, H, W)

        H and W are multiples of 8, or of 16 with variant="code".
        """
        check_size(image, self.stride)
        x, skips = image, []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
        x = self.bridge(x)
        for up in self.decoder:
            x = up(x, skips.pop())
        return (self.head(x),)


def bottleneck(in_channels: int, channels: int) -> Residual:
    """1x1, conv3, 1x1, each after BatchNorm and ReLU, plus a projection."""
    body = nn.Sequential(
        activated_conv(in_channels, channels, kernel=1),
        activated_conv(channels, channels),
        activated_conv(channels, channels, kernel=1),
    )
    return Residual(body, projection(in_channels, channels))


def as_in_paper(base_channels: int) -> ResUNet:
    """Zhang's network."""
    w1, w2, w3, w4 = (base_channels * 2**level for level in range(4))
    return ResUNet(
        encoder=[residual_stem(w1), residual_unit(w1, w2, stride=2), residual_unit(w2, w3, stride=2)],
        bridge=residual_unit(w3, w4, stride=2),
        decoder=[
            UpBlock(nn.Upsample(scale_factor=2.0), residual_unit(deep + skip, skip))
            for deep, skip in ((w4, w3), (w3, w2), (w2, w1))
        ],
        head=nn.Conv2d(w1, 1, 1),
    )


def as_in_code(base_channels: int) -> ResUNet:
    """The network of the file published with ResUNet++."""
    w1, w2, w3, w4, w5 = (base_channels * factor for factor in (1, 2, 4, 6, 8))
    return ResUNet(
        encoder=[
            bottleneck(3, w1),
            *(nn.Sequential(nn.MaxPool2d(2), bottleneck(i, o)) for i, o in ((w1, w2), (w2, w3), (w3, w4))),
        ],
        bridge=nn.Sequential(nn.MaxPool2d(2), bottleneck(w4, w5), bottleneck(w5, w5)),
        decoder=[
            UpBlock(doubling_conv3(deep, w4), bottleneck(w4 + skip, skip))
            for deep, skip in ((w5, w4), (w4, w3), (w3, w2), (w2, w1))
        ],
        head=nn.Sequential(nn.Conv2d(w1, 1, 1), nn.BatchNorm2d(1)),
    )


@register(
    stride=STRIDE,
    paper="Zhang et al., arXiv:1711.10684",
    published=7_800_000,
    published_in="its paper: 3 x 3 kernels alone",
)
def resunet(*, base_channels: int | None = None, variant: Variant = "paper") -> ResUNet:
    """ResUNet: a U-Net of pre-activated residual blocks.

    base_channels: channels at full size; by default the variant's own, 64 or 16.
    variant: see the module.
    """
    if variant not in ("paper", "code"):
        raise ValueError(f"variant must be 'paper' or 'code', got {variant!r}")
    wire, own_channels = (as_in_paper, 64) if variant == "paper" else (as_in_code, 16)
    base_channels = own_channels if base_channels is None else base_channels
    check_multiple("base_channels", base_channels)
    return wire(base_channels)


@register(stride=STRIDE, paper="Jha et al., arXiv:1911.07067")
def resunet_mod(*, base_channels: int | None = None, variant: Variant = "paper") -> ResUNet:
    """ResUNet-mod: ResUNet, under the name of a paper that trains it with Dice loss."""
    return resunet(base_channels=base_channels, variant=variant)
