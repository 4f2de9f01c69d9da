"""ColonSegNet: two encoders with outputs at two sizes, and a decoder for each (Jha et al., arXiv:2011.07631).

Wired like the authors' code, which has the printed size. Left out: its last max pooling, whose result is not used.
Convolutions keep a bias that the following BatchNorm cancels: it is part of the printed size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orchestrator.models.blocks import Residual, SqueezeExcite, check_multiple, check_size
from orchestrator.models.published_weights import publish
from orchestrator.models.registry import register

STRIDE = 8
REDUCTION = 16


def conv_bn(in_channels: int, channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution with bias, padded on all sides so that stride 1 keeps H and W, and BatchNorm."""
    conv = nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


def residual(in_channels: int, channels: int) -> nn.Sequential:
    """Two conv3 plus a shortcut with squeeze-excite, then ReLU."""
    body = nn.Sequential(conv_bn(in_channels, channels), nn.ReLU(inplace=True), conv_bn(channels, channels))
    shortcut = nn.Sequential(conv_bn(in_channels, channels, 1), SqueezeExcite(channels, REDUCTION))
    return nn.Sequential(Residual(body, shortcut), nn.ReLU(inplace=True))


class Encoder(nn.Module):
    """A residual block at the input's size, and one at half of it."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.large = residual(in_channels, channels)
        self.halve = nn.Sequential(conv_bn(channels, channels, stride=2), nn.ReLU(inplace=True))
        self.small = residual(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, in_channels, h, w) -> (B, channels, h, w) and (B, channels, h / 2, w / 2)"""
        large = self.large(x)
        return large, self.small(self.halve(large))


class ColonSegNet(nn.Module):
    """Encoders at 1/1 and 1/4; decoders at 1/2 and 1/1, with two skips each."""

    def __init__(self, base_channels: int) -> None:
        super().__init__()
        half, w, wide, deep = base_channels // 2, base_channels, 2 * base_channels, 4 * base_channels
        self.encoder1 = Encoder(3, w)
        self.pool = nn.MaxPool2d(2)
        self.encoder2 = Encoder(w, deep)
        self.up8 = nn.ConvTranspose2d(deep, wide, 4, stride=4)
        self.residual8 = residual(wide + w, wide)
        self.up4 = nn.ConvTranspose2d(deep, wide, 4, stride=2, padding=1)
        self.residual4 = residual(wide + wide, wide)
        self.up2 = nn.ConvTranspose2d(wide, w, 4, stride=2, padding=1)
        self.residual2 = residual(w + w, w)
        self.up_skip = nn.ConvTranspose2d(w, half, 4, stride=2, padding=1)
        self.residual_skip = residual(w + half, half)
        self.head = nn.Conv2d(half, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 8 -> logits (B, 1, H, W)"""
        check_size(image, STRIDE)
        s1, s2 = self.encoder1(image)
        s4, s8 = self.encoder2(self.pool(s2))
        d2 = self.residual8(torch.cat([self.up8(s8), s2], dim=1))
        d2 = self.residual4(torch.cat([d2, self.up4(s4)], dim=1))
        d1 = self.residual2(torch.cat([self.up2(d2), s1], dim=1))
        d1 = self.residual_skip(torch.cat([d1, self.up_skip(s2)], dim=1))
        return (self.head(d1),)


@register(stride=STRIDE, paper="Jha et al., arXiv:2011.07631", published=5_014_049)
def colonsegnet(*, base_channels: int = 64) -> ColonSegNet:
    """ColonSegNet: a fast residual network with two encoders and two decoders.

    base_channels: channels at full size. Below 32, squeeze-excite keeps a single channel in its narrowest blocks.
    """
    check_multiple("base_channels", base_channels, of=2)
    return ColonSegNet(base_channels)


def _published_names() -> dict[str, str]:
    blocks = {
        "encoder1.large": "e1.residual_block1",
        "encoder1.small": "e1.residual_block2",
        "encoder2.large": "e2.residual_block1",
        "encoder2.small": "e2.residual_block2",
        "residual8": "r1",
        "residual4": "r2",
        "residual2": "r3",
        "residual_skip": "r4",
    }
    parts = {
        "0.body.0.0": "conv1",
        "0.body.0.1": "bn1",
        "0.body.2.0": "conv2",
        "0.body.2.1": "bn2",
        "0.shortcut.0.0": "conv3",
        "0.shortcut.0.1": "bn3",
        "0.shortcut.1.weigh.1": "se.fc.0",
        "0.shortcut.1.weigh.3": "se.fc.2",
    }
    halves = {
        f"encoder{i}.halve.0.{n}": f"e{i}.strided_conv.{part}"
        for i in (1, 2)
        for n, part in enumerate(("conv", "bn"))
    }
    return {
        **{
            f"{ours}.{part}": f"{theirs}.{name}"
            for ours, theirs in blocks.items()
            for part, name in parts.items()
        },
        **halves,
        **{"up8": "t1", "up4": "t2", "up2": "t3", "up_skip": "t4", "head": "output"},
    }


publish("colonsegnet", source="DebeshJha/ColonSegNet", names=_published_names())
