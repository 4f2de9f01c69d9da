"""Polyp-PVT: a pyramid transformer whose deep and shallow maps meet in a small graph (Dong et al., arXiv:2108.06932).

After the paper, whose text was not at hand: details may differ. Its code (research licence) was not used. Modules:
- cascaded fusion (CFM) joins the maps at 1/8, 1/16 and 1/32 into one;
- camouflage identification (CIM) weighs channels, then places, of the map at 1/4;
- similarity aggregation (SAM) lets 16 nodes, pooled where the shallow map points, exchange what is alike.
25,107,620 parameters; papers that compare with it print 25.11 M. What the paper leaves open is decided here: maps are
reduced to 32 channels by a 1x1 (a 3x3 would give 25.4 M); the graph has a layer across nodes and one across channels.
The prediction is the final map; that of cascaded fusion alone is trained with it, at equal weight, as in the paper.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestrator.models.blocks import (
    ChannelsThenPlaces,
    ImageNetNormalize,
    check_multiple,
    check_size,
    conv_bn,
    resize,
)
from orchestrator.models.pyramids import AnyPyramid
from orchestrator.models.registry import register

STRIDE = 32
SIDE = 4  # of the grid of the graph's nodes


class CascadedFusion(nn.Module):
    """CFM: the deepest map, carried up over two levels by products and concatenations."""

    def __init__(self, width: int) -> None:
        super().__init__()
        unit = partial(conv_bn, relu=True)
        self.weigh16, self.pass16, self.weigh8, self.weigh8_by_16 = (unit(width, width) for _ in range(4))
        self.join16, self.pass8 = (unit(2 * width, 2 * width) for _ in range(2))
        self.join8 = nn.Sequential(unit(3 * width, 3 * width), unit(3 * width, width))

    def forward(self, s8: Tensor, s16: Tensor, s32: Tensor) -> Tensor:
        """Maps (B, width, *, *) at 1/8, 1/16 and 1/32 -> (B, width, h, w) at 1/8"""
        deep = resize(s32, like=s16)
        joined16 = self.join16(torch.cat([self.weigh16(deep) * s16, self.pass16(deep)], dim=1))
        weighed8 = self.weigh8(resize(s32, like=s8)) * self.weigh8_by_16(resize(s16, like=s8)) * s8
        return self.join8(torch.cat([weighed8, self.pass8(resize(joined16, like=s8))], dim=1))


class SimilarityAggregation(nn.Module):
    """SAM: deep features gather at nodes that the shallow map chooses, exchange, and return to their places."""

    def __init__(self, width: int, shallow: int) -> None:
        super().__init__()
        states = max(1, width // 2)
        self.query, self.key = nn.Conv2d(width, states, 1), nn.Conv2d(width, states, 1)
        self.shallow = nn.Conv2d(shallow, width, 1)
        self.across_nodes = nn.Conv1d(SIDE**2, SIDE**2, 1)
        self.across_states = nn.Conv1d(states, states, 1)
        self.back = nn.Conv2d(states, width, 1)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """deep (B, width, h, w), shallow (B, shallow, H, W) -> (B, width, h, w)"""
        query, key = self.query(deep), self.key(deep)
        attended = key * resize(self.shallow(shallow), like=deep).softmax(dim=1)[:, 1:2]
        centers = F.adaptive_avg_pool2d(attended, SIDE + 2)[:, :, 1:-1, 1:-1].flatten(2)
        alike = (centers.transpose(1, 2) @ key.flatten(2)).softmax(dim=1)  # (B, nodes, places)
        nodes = alike @ query.flatten(2).transpose(1, 2)
        nodes = (nodes + self.across_nodes(nodes)).relu().transpose(1, 2)
        return deep + self.back((self.across_states(nodes) @ alike).unflatten(2, deep.shape[-2:]))


class PolypPVT(nn.Module):
    """Encoder, the three modules, and a head on the fused map before and after aggregation."""

    def __init__(self, encoder: AnyPyramid, width: int) -> None:
        super().__init__()
        _, shallow, *channels = encoder.channels
        self.normalize = ImageNetNormalize()
        self.encoder = encoder
        self.reduce = nn.ModuleList(conv_bn(c, width, 1, relu=True) for c in channels)
        self.fuse = CascadedFusion(width)
        self.identify = ChannelsThenPlaces(shallow)  # CIM
        self.aggregate = SimilarityAggregation(width, shallow)
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in range(2))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 32 -> two logits (B, 1, H, W): final, fused alone"""
        check_size(image, STRIDE)
        _, shallow, *deep = self.encoder(self.normalize(image))
        fused = self.fuse(*(reduce(x) for reduce, x in zip(self.reduce, deep, strict=True)))
        final = self.aggregate(fused, self.identify(shallow))
        logits = (head(x) for head, x in zip(self.heads, (final, fused), strict=True))
        return tuple(resize(x, like=image) for x in logits)


@register(
    stride=STRIDE,
    paper="Dong et al., CAAI AIR 2023, arXiv:2108.06932",
    published=25_110_000,
    published_in="papers that compare with it",
)
def polyp_pvt(
    *, width: int = 32, encoder: str = "pvt_v2_b2", pretrained: bool = True, weights: str | None = None
) -> PolypPVT:
    """Polyp-PVT: a pyramid vision transformer whose deep and shallow maps meet in a small graph.

    width: channels of the reduced maps, an even number; 32 in the paper.
    encoder: a timm encoder with maps at 1/4 to 1/32; by default PVTv2-B2, the paper's.
    pretrained: download its ImageNet weights, from which the authors start.
    weights: read them from this local file instead, in timm's names.
    """
    check_multiple("width", width, 2)
    return PolypPVT(AnyPyramid(encoder, pretrained=pretrained, weights=weights), width)
