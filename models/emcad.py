"""EMCAD: a decoder of depth-wise convolutions at several scales, with attention (Rahman et al., arXiv:2405.06880).

After the paper, whose text was not at hand, so details may differ; its code (another licence) was not used.
From 1/32 to 1/4 every level refines its map with attention
over channels and places and a residual block of parallel 1x1, 3x3 and 5x5 depth-wise convolutions (MSCAM), doubles its
size (EUCB), and adds the encoder's map, gated by what came from below (LGAG). Each level has a head.
3,917,077 parameters on PVTv2-B0 and 26,764,693 on PVTv2-B2, printed 3.92 M and 26.76 M (the decoder: 1,914,837, printed
1.91 M). This fixes what the text leaves open: a block widens twofold, gates have half of a level's channels as groups.
The prediction is the finest map. For two classes the paper trains the four maps and their sum, with equal weight, as
here; mutation = true trains the sums of all 15 choices of maps, which the paper does with many classes.
"""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import torch
from torch import Tensor, nn

from orchestrator.models.blocks import ChannelsThenPlaces, ImageNetNormalize, check_size, conv_bn, resize
from orchestrator.models.pyramids import AnyPyramid
from orchestrator.models.registry import register

STRIDE = 32
PUBLISHED = {"b0": "pvt_v2_b0", "b2": "pvt_v2_b2"}


def depthwise(channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)


class MultiScale(nn.Module):
    """MSCAM: attention, then a residual block of parallel depth-wise convolutions whose channels are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.attend = ChannelsThenPlaces(channels)
        self.widen = nn.Sequential(conv_bn(channels, wide, 1), nn.ReLU6(inplace=True))
        self.scales = nn.ModuleList(
            nn.Sequential(depthwise(wide, kernel), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True))
            for kernel in (1, 3, 5)
        )
        self.shuffle = nn.ChannelShuffle(channels)
        self.narrow = conv_bn(wide, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> (B, channels, h, w)"""
        x = self.attend(x)
        wide = self.widen(x)
        return x + self.narrow(self.shuffle(sum(scale(wide) for scale in self.scales)))


class Up(nn.Sequential):
    """EUCB: twice the size, a depth-wise 3x3, BatchNorm, ReLU, then a 1x1."""

    def __init__(self, in_channels: int, channels: int) -> None:
        normalized = [depthwise(in_channels, 3), nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)]
        super().__init__(nn.Upsample(scale_factor=2), *normalized, nn.Conv2d(in_channels, channels, 1))


class Gate(nn.Module):
    """LGAG: an encoder's map, weighed place by place by grouped 3x3 convolutions of itself and of what comes up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        groups = math.gcd(channels, hidden)
        up, skip = (nn.Conv2d(channels, hidden, 3, padding=1, groups=groups) for _ in range(2))
        self.up, self.skip = (nn.Sequential(conv, nn.BatchNorm2d(hidden)) for conv in (up, skip))
        self.weigh = nn.Sequential(nn.ReLU(), nn.Conv2d(hidden, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, up: Tensor, skip: Tensor) -> Tensor:
        """Two maps (B, channels, h, w) -> skip, weighed"""
        return skip * self.weigh(self.up(up) + self.skip(skip))


class EMCAD(nn.Module):
    """Encoder, decoder, and the sums of maps that are trained."""

    def __init__(self, encoder: AnyPyramid, *, mutation: bool) -> None:
        super().__init__()
        down = encoder.channels[:0:-1]
        self.normalize = ImageNetNormalize()
        self.encoder = encoder
        self.refine = nn.ModuleList(MultiScale(c) for c in down)
        self.up = nn.ModuleList(Up(below, c) for below, c in pairwise(down))
        self.gates = nn.ModuleList(Gate(c) for c in down[1:])
        self.heads = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in down)
        sizes = (1, 2, 3, 4) if mutation else (1, 4)
        self.sums = [chosen for size in sizes for chosen in combinations(range(4), size)]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 32 -> logits (B, 1, H, W): maps from fine on, sums"""
        check_size(image, STRIDE)
        deepest, *skips = self.encoder(self.normalize(image))[:0:-1]
        levels = [self.refine[0](deepest)]
        for up, gate, refine, skip in zip(self.up, self.gates, self.refine[1:], skips, strict=True):
            x = up(levels[-1])
            levels.append(refine(x + gate(x, skip)))
        maps = [resize(head(x), like=image) for head, x in zip(self.heads, levels, strict=True)][::-1]
        return tuple(torch.stack([maps[i] for i in chosen]).sum(dim=0) for chosen in self.sums)


@register(stride=STRIDE, paper="Rahman et al., CVPR 2024, arXiv:2405.06880", published=26_760_000)
def emcad(
    *, encoder: str = "b2", mutation: bool = False, pretrained: bool = True, weights: str | None = None
) -> EMCAD:
    """EMCAD: a light decoder of multi-scale depth-wise convolutions and attention, on a pyramid transformer.

    encoder: b0 or b2, the paper's PVTv2, or a timm encoder with maps at 1/4 to 1/32.
    mutation: train the sums of all 15 choices of the four maps, not only the maps and the sum of all.
    pretrained: download the encoder's ImageNet weights, from which the authors start.
    weights: read them from this local file instead, in timm's names.
    """
    body = AnyPyramid(PUBLISHED.get(encoder, encoder), pretrained=pretrained, weights=weights)
    return EMCAD(body, mutation=mutation)
