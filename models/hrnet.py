"""HRNetV2: four parallel resolutions from start to end (Wang et al., arXiv:1908.07919), on timm's bodies.

Widths 18 and 48 as in the authors' segmentation repository, with one class: a 1x1 as wide as all four maps
together, BatchNorm, ReLU, 1x1, at 1/4 of the input. As there, the head's kernels are initialized from a normal
distribution of deviation 0.001; a body without pretrained weights is initialized by timm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orchestrator.models.blocks import ImageNetNormalize, check_size, resize
from orchestrator.models.encoders import Pyramid
from orchestrator.models.registry import register

STRIDE = 32
PAPER = "Wang et al., arXiv:1908.07919"


class HRNet(nn.Module):
    """Body and head."""

    def __init__(self, body: Pyramid) -> None:
        super().__init__()
        width = sum(body.channels)
        self.normalize = ImageNetNormalize()
        self.body = body
        mix, last = nn.Conv2d(width, width, 1), nn.Conv2d(width, 1, 1)
        for conv in (mix, last):
            nn.init.normal_(conv.weight, std=0.001)
        self.head = nn.Sequential(mix, nn.BatchNorm2d(width), nn.ReLU(inplace=True), last)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 32 -> logits (B, 1, H, W)"""
        check_size(image, STRIDE)
        finest, *coarser = self.body(self.normalize(image))
        joined = torch.cat([finest, *(resize(x, like=finest) for x in coarser)], dim=1)
        return (resize(self.head(joined), like=image),)


@register(stride=STRIDE, paper=PAPER, published=3_900_000, published_in="the authors' repository, 19 classes")
def hrnet_w18_small_v2(
    *, encoder: str = "hrnet_w18_small_v2", pretrained: bool = True, weights: str | None = None
) -> HRNet:
    """HRNetV2-W18-Small-v2: four parallel resolutions, narrow and shallow.

    encoder: one of timm's HRNets.
    pretrained: download its ImageNet weights, from which the authors start.
    weights: read them from this local file instead.
    """
    return _hrnet(encoder, pretrained, weights)


@register(
    stride=STRIDE, paper=PAPER, published=65_800_000, published_in="the authors' repository, 19 classes"
)
def hrnet_w48(*, encoder: str = "hrnet_w48", pretrained: bool = True, weights: str | None = None) -> HRNet:
    """HRNetV2-W48: four parallel resolutions.

    encoder: one of timm's HRNets.
    pretrained: download its ImageNet weights, from which the authors start.
    weights: read them from this local file instead.
    """
    return _hrnet(encoder, pretrained, weights)


def _hrnet(encoder: str, pretrained: bool, weights: str | None) -> HRNet:
    if not encoder.startswith("hrnet_"):
        raise ValueError(
            f"encoder {encoder!r} is not an HRNet; use hrnet_w18_small_v2 or hrnet_w48, for example"
        )
    # Output maps of the branches, without a classifier's widening.
    options = {"feature_location": "", "out_indices": (1, 2, 3, 4)}
    return HRNet(Pyramid(encoder, pretrained=pretrained, weights=weights, **options))
