"""ResUNet++ (Jha et al., arXiv:1911.07067): residual U-Net with squeeze-excite, ASPP and attention.

Follows the published Keras code, which agrees with the text; the paper's figure differs from it:
- squeeze-excite is in every block, and skips leave after it (figure: between encoder stages, skips before);
- the attention block multiplies without a sigmoid, and ASPP branches are added and have no ReLU.
The paper gives no widths; the code has base_channels = 16, and 32 gives the size printed in a later paper.
BatchNorm constants, initial weights and the padding of strided convolutions are those of Keras; the code draws the
weights of squeeze-excite from a He normal distribution, here they are initialized like all others.

Ali et al. (Depth-Wise Separable Atrous Convolution ..., MediaEval 2020) keep it and change both pyramids. Their text
names no fifth branch, but their sizes, and their code, have one with dilation 24:
- their resunet++ is resunet_pp with pyramid = "five";
- resunet_pp_sepconv: those five, each convolution depth-wise, then 1x1, with nothing in between;
- resunet_pp_daspp_relu: DASPP in the bridge and, only in the code, in the head too;
- resunet_pp_daspp: the same without ReLU. Its code is not public; its printed size is that of the one with ReLU.
LiteSeg's DASPP ends in BatchNorm and ReLU, pools the whole map, and has separable second convolutions; here, as in
the code, nothing follows, 2 x 2 pixels are pooled, and they are plain: both printed sizes are matched exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from orchestrator.models.blocks import (
    Residual,
    SqueezeExcite,
    SummedPyramid,
    activated_conv,
    check_multiple,
    check_size,
    like_keras,
    residual_stem,
    residual_unit,
)
from orchestrator.models.registry import register

STRIDE = 8
DASPP_STRIDE = 16  # the bridge halves its map again
FIVE = (6, 12, 18, 1, 24)  # dilations
POOLED_CHANNELS = 16
LATER = "Ali et al., MediaEval 2020 (CEUR-WS 2882)"

Pyramid = Callable[[int, int], nn.Module]  # (in_channels, channels)


def stem(channels: int) -> Residual:
    """Two convolutions of the image, then squeeze-excite."""
    return residual_stem(channels, SqueezeExcite(channels))


def residual(in_channels: int, channels: int, stride: int = 1) -> Residual:
    """Two pre-activated convolutions, the first with the stride, then squeeze-excite."""
    return residual_unit(in_channels, channels, stride, SqueezeExcite(channels))


def separable_conv(
    in_channels: int, channels: int, dilation: int = 1, *, kernel: Literal[1, 3] = 3
) -> nn.Sequential:
    """A depth-wise convolution, then a 1x1 with bias; keeps H and W."""
    padding = dilation * (kernel // 2)
    alone = nn.Conv2d(
        in_channels, in_channels, kernel, padding=padding, dilation=dilation, groups=in_channels, bias=False
    )
    return nn.Sequential(alone, nn.Conv2d(in_channels, channels, 1))


class DeepPyramid(nn.Module):
    """DASPP: the map itself, its 1x1, three dilated views convolved again, and its average over 2 x 2."""

    def __init__(self, in_channels: int, channels: int, *, relu: bool) -> None:
        super().__init__()
        activation = [nn.ReLU(inplace=True)] if relu else []
        near = nn.Sequential(separable_conv(in_channels, channels, kernel=1), nn.BatchNorm2d(channels))
        views = [
            nn.Sequential(
                separable_conv(in_channels, channels, dilation),
                *activation,
                nn.BatchNorm2d(channels),
                nn.Conv2d(channels, channels, 3, padding=1),
            )
            for dilation in (3, 6, 9)
        ]
        pooled = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(in_channels, POOLED_CHANNELS, 1), nn.Upsample(scale_factor=2.0)
        )
        self.branches = nn.ModuleList([near, *views, pooled])
        self.mix = nn.Conv2d(in_channels + 4 * channels + POOLED_CHANNELS, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, 2h, 2w) -> (B, channels, 2h, 2w)"""
        return self.mix(torch.cat([x, *(branch(x) for branch in self.branches)], dim=1))


class Attention(nn.Module):
    """A deep map multiplied by attention weights from the skip and itself; without a sigmoid, as published."""

    def __init__(self, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.look_at_skip = nn.Sequential(activated_conv(skip_channels, channels), nn.MaxPool2d(2))
        self.look_at_deep = activated_conv(channels, channels)
        self.mix = activated_conv(channels, channels)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """skip (B, skip_channels, 2h, 2w), deep (B, channels, h, w) -> (B, channels, h, w)"""
        return deep * self.mix(self.look_at_skip(skip) + self.look_at_deep(deep))


class UpBlock(nn.Module):
    """Attention, upsampling, concatenation with the skip, convolution."""

    def __init__(self, deep_channels: int, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.attention = Attention(skip_channels, deep_channels)
        self.residual = residual(deep_channels + skip_channels, channels)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """deep (B, deep_channels, h, w), skip (B, skip_channels, 2h, 2w) -> (B, channels, 2h, 2w)"""
        deep = nn.functional.interpolate(self.attention(skip, deep), scale_factor=2.0, mode="nearest")
        return self.residual(torch.cat([deep, skip], dim=1))


class ResUNetPP(nn.Module):
    """Encoder to 1/8, a pyramid as bridge, three attended decoder levels, a pyramid in the head."""

    def __init__(self, base_channels: int, pyramid: Pyramid, stride: int = STRIDE) -> None:
        super().__init__()
        check_multiple("base_channels", base_channels, of=8)  # squeeze-excite keeps an eighth of the channels
        w1, w2, w3, w4, w5 = (base_channels * 2**level for level in range(5))
        self.stride = stride
        self.stem = stem(w1)
        self.encoder2 = residual(w1, w2, stride=2)
        self.encoder3 = residual(w2, w3, stride=2)
        self.encoder4 = residual(w3, w4, stride=2)
        self.bridge = pyramid(w4, w5)
        self.decoder3 = UpBlock(w5, w3, w4)
        self.decoder2 = UpBlock(w4, w2, w3)
        self.decoder1 = UpBlock(w3, w1, w2)
        self.head = nn.Sequential(pyramid(w2, w1), nn.Conv2d(w1, 1, 1))
        like_keras(self)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 8, with DASPP of 16 -> logits (B, 1, H, W)"""
        check_size(image, self.stride)
        s1 = self.stem(image)
        s2 = self.encoder2(s1)
        s4 = self.encoder3(s2)
        s8 = self.encoder4(s4)
        d4 = self.decoder3(self.bridge(s8), s4)
        d2 = self.decoder2(d4, s2)
        d1 = self.decoder1(d2, s1)
        return (self.head(d1),)


@register(
    stride=STRIDE,
    paper="Jha et al., arXiv:1911.07067",
    published=4_070_385,
    published_in="counted in the authors' code",
)
def resunet_pp(*, base_channels: int = 16, pyramid: Literal["four", "five"] = "four") -> ResUNetPP:
    """ResUNet++: residual U-Net with squeeze-excite, ASPP and attention.

    base_channels: channels at full size; doubled at each of four levels.
    pyramid: branches of its ASPP; "five" is the baseline of the paper behind resunet_pp_sepconv.
    """
    if pyramid not in ("four", "five"):
        raise ValueError(f"pyramid must be 'four' or 'five', got {pyramid!r}")
    return ResUNetPP(
        base_channels, SummedPyramid if pyramid == "four" else partial(SummedPyramid, dilations=FIVE)
    )


@register(stride=STRIDE, paper=LATER, published=3_047_265, published_in="its Table 2")
def resunet_pp_sepconv(*, base_channels: int = 16) -> ResUNetPP:
    """ResUNet++ whose ASPP has five depth-wise separable branches."""
    return ResUNetPP(base_channels, partial(SummedPyramid, dilations=FIVE, conv=separable_conv))


@register(stride=DASPP_STRIDE, paper=LATER, published=5_024_705, published_in="its Table 2")
def resunet_pp_daspp(*, base_channels: int = 16) -> ResUNetPP:
    """ResUNet++ with the deeper pyramid DASPP in place of ASPP."""
    return ResUNetPP(base_channels, partial(DeepPyramid, relu=False), DASPP_STRIDE)


@register(stride=DASPP_STRIDE, paper=LATER, published=5_024_705, published_in="its Table 2")
def resunet_pp_daspp_relu(*, base_channels: int = 16) -> ResUNetPP:
    """ResUNet++ with DASPP in place of ASPP, and ReLU between its dilated convolutions and their BatchNorm."""
    return ResUNetPP(base_channels, partial(DeepPyramid, relu=True), DASPP_STRIDE)
