"""ResUNet++ (Jha et al., arXiv:1911.07067): residual U-Net with squeeze-excite, ASPP and attention.

Follows the published Keras code, which fits the text; the paper's figure differs from it:
- squeeze-excite is in every block, and skips leave after it (figure: between encoder stages, skips before);
- the attention block multiplies without a sigmoid, and ASPP branches are added and have no ReLU.
The paper gives no widths; the code's are base_channels = 16, and 32 has the size that a later paper prints.
BatchNorm constants, initial weights and the padding of strided convolutions are those of Keras.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks import SqueezeExcite, SummedPyramid, check_multiple, check_size, like_keras
from models.registry import register

STRIDE = 8


def conv3(in_channels: int, channels: int, stride: int = 1) -> nn.Module:
    """conv3 with bias; a strided one pads right and bottom only, as Keras does for even sizes."""
    if stride == 1:
        return nn.Conv2d(in_channels, channels, 3, padding=1)
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(in_channels, channels, 3, stride=stride))


def shortcut(in_channels: int, channels: int, stride: int = 1) -> nn.Sequential:
    """1x1 and BatchNorm."""
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride), nn.BatchNorm2d(channels))


def activated_conv(in_channels: int, channels: int, stride: int = 1) -> nn.Sequential:
    """BatchNorm, ReLU, conv3."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), conv3(in_channels, channels, stride)
    )


class Residual(nn.Module):
    """A body plus a shortcut, then squeeze-excite."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.squeeze_excite = SqueezeExcite(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, channels, h, w), or half of h and w where body and shortcut have stride 2"""
        return self.squeeze_excite(self.body(x) + self.shortcut(x))


def stem(channels: int) -> Residual:
    """The first block: it meets the image, so its first convolution has nothing to normalize."""
    body = nn.Sequential(
        conv3(3, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True), conv3(channels, channels)
    )
    return Residual(body, shortcut(3, channels), channels)


def residual(in_channels: int, channels: int, stride: int = 1) -> Residual:
    """Two pre-activated convolutions, the first with the stride."""
    body = nn.Sequential(activated_conv(in_channels, channels, stride), activated_conv(channels, channels))
    return Residual(body, shortcut(in_channels, channels, stride), channels)


class Attention(nn.Module):
    """Multiply a deep map by what the skip and the map itself say; no sigmoid, as published."""

    def __init__(self, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.look_at_skip = nn.Sequential(activated_conv(skip_channels, channels), nn.MaxPool2d(2))
        self.look_at_deep = activated_conv(channels, channels)
        self.mix = activated_conv(channels, channels)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """skip (B, skip_channels, 2h, 2w), deep (B, channels, h, w) -> (B, channels, h, w)"""
        return deep * self.mix(self.look_at_skip(skip) + self.look_at_deep(deep))


class UpBlock(nn.Module):
    """Attend, double the size, look at the skip, convolve."""

    def __init__(self, deep_channels: int, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.attention = Attention(skip_channels, deep_channels)
        self.residual = residual(deep_channels + skip_channels, channels)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """deep (B, deep_channels, h, w), skip (B, skip_channels, 2h, 2w) -> (B, channels, 2h, 2w)"""
        deep = F.interpolate(self.attention(skip, deep), scale_factor=2.0, mode="nearest")
        return self.residual(torch.cat([deep, skip], dim=1))


class ResUNetPP(nn.Module):
    """Encoder to 1/8, ASPP bridge, three attended decoder levels, ASPP head."""

    def __init__(self, base_channels: int) -> None:
        super().__init__()
        w1, w2, w3, w4, w5 = (base_channels * 2**level for level in range(5))
        self.stem = stem(w1)
        self.encoder2 = residual(w1, w2, stride=2)
        self.encoder3 = residual(w2, w3, stride=2)
        self.encoder4 = residual(w3, w4, stride=2)
        self.bridge = SummedPyramid(w4, w5)
        self.decoder3 = UpBlock(w5, w3, w4)
        self.decoder2 = UpBlock(w4, w2, w3)
        self.decoder1 = UpBlock(w3, w1, w2)
        self.head = nn.Sequential(SummedPyramid(w2, w1), nn.Conv2d(w1, 1, 1))
        like_keras(self)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 8 -> logits (B, 1, H, W)"""
        check_size(image, STRIDE)
        s1 = self.stem(image)
        s2 = self.encoder2(s1)
        s4 = self.encoder3(s2)
        s8 = self.encoder4(s4)
        d4 = self.decoder3(self.bridge(s8), s4)
        d2 = self.decoder2(d4, s2)
        d1 = self.decoder1(d2, s1)
        return (self.head(d1),)


@register(stride=STRIDE)
def resunet_pp(*, base_channels: int = 16) -> ResUNetPP:
    """ResUNet++: residual U-Net with squeeze-excite, ASPP and attention."""
    check_multiple("base_channels", base_channels, of=8)  # squeeze-excite keeps an eighth of the channels
    return ResUNetPP(base_channels)
