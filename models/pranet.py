"""PraNet: a coarse map, then reverse attention from deep to shallow (Fan et al., arXiv:2006.11392).

Follows the published code, which agrees with the text. `parts` removes what two ablations of Yu, Yan and Li's
paper at EndoCV2021 remove (their "parallel Res2Net" is this network). They do not describe the start of reverse
attention without the partial decoder; here it is a 1x1 convolution of the deepest map, the smallest addition.
Differs from the code:
- the encoder is built without its classifier: 30,498,319 parameters, 32,547,319 in the stored file;
- pixels are in [0, 1] and normalized here, like ImageNet; the prediction comes first, not last;
- reverse attention grows with `width`; at 32 it has the code's 256 and 64 channels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestrator.models.blocks import (
    ImageNetNormalize,
    ReceptiveField,
    check_multiple,
    check_size,
    conv_bn,
    resize,
)
from orchestrator.models.encoders import Pyramid
from orchestrator.models.published_weights import publish, units
from orchestrator.models.registry import register

STRIDE = 32


def double(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 2h, 2w), corners aligned."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class PartialDecoder(nn.Module):
    """Join the three deep levels into one coarse map; no ReLU anywhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c1, c2, c3 = channels, 2 * channels, 3 * channels
        self.weigh16, self.weigh8, self.weigh8_by_16, self.pass16 = (conv_bn(c1, c1) for _ in range(4))
        self.pass8 = conv_bn(c2, c2)
        self.join16 = conv_bn(c2, c2)
        self.join8 = conv_bn(c3, c3)
        self.mix = conv_bn(c3, c3)
        self.head = nn.Conv2d(c3, 1, 1)

    def forward(self, s8: Tensor, s16: Tensor, s32: Tensor) -> Tensor:
        """Three maps (B, channels, *, *) at 1/8, 1/16, 1/32 -> logits (B, 1, h, w) at 1/8"""
        deep = double(s32)
        joined16 = self.join16(torch.cat([self.weigh16(deep) * s16, self.pass16(deep)], dim=1))
        weighed8 = self.weigh8(double(deep)) * self.weigh8_by_16(double(s16)) * s8
        joined8 = self.join8(torch.cat([weighed8, self.pass8(double(joined16))], dim=1))
        return self.head(self.mix(joined8))


class ReverseAttention(nn.Module):
    """Refinement of a coarse map from features of its background."""

    def __init__(self, in_channels: int, channels: int, *, kernel: int, depth: int, last: int) -> None:
        super().__init__()
        self.refine = nn.Sequential(
            conv_bn(in_channels, channels, 1),
            *(conv_bn(channels, channels, kernel, relu=True) for _ in range(depth)),
            conv_bn(channels, 1, last),
        )

    def forward(self, features: Tensor, coarse: Tensor) -> Tensor:
        """features (B, in_channels, h, w), coarse logits (B, 1, *, *) -> refined logits (B, 1, h, w)"""
        coarse = resize(coarse, like=features)
        background = (-coarse).sigmoid()
        return coarse + self.refine(background * features)


class CoarseMap(nn.Module):
    """The first prediction: receptive fields on three levels and the partial decoder."""

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.fields = nn.ModuleList(ReceptiveField(c, width) for c in channels)
        self.decoder = PartialDecoder(width)

    def forward(self, s8: Tensor, s16: Tensor, s32: Tensor) -> Tensor:
        """Three maps of the encoder -> logits (B, 1, h, w) at 1/8"""
        return self.decoder(*(field(x) for field, x in zip(self.fields, (s8, s16, s32), strict=True)))


class DeepestMap(nn.Module):
    """The first prediction without a partial decoder."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels[-1], 1, 1)

    def forward(self, s8: Tensor, s16: Tensor, s32: Tensor) -> Tensor:
        """Three maps of the encoder -> logits (B, 1, h, w) at 1/32"""
        return self.head(s32)


class PraNet(nn.Module):
    """Encoder, a first prediction, and reverse attention that refines it level by level."""

    def __init__(
        self, encoder: Pyramid, guess: CoarseMap | DeepestMap, reverse: list[ReverseAttention]
    ) -> None:
        super().__init__()
        self.normalize = ImageNetNormalize()
        self.encoder = encoder
        self.guess = guess
        self.reverse = nn.ModuleList(reverse)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 32 -> logits (B, 1, H, W)

        The prediction first, then the maps it was refined from, down to the first prediction.
        """
        check_size(image, STRIDE)
        _, s8, s16, s32 = self.encoder(self.normalize(image))
        maps = [self.guess(s8, s16, s32)]
        for refine, features in zip(self.reverse, (s32, s16, s8), strict=False):
            maps.append(refine(features, maps[-1]))
        return tuple(resize(logits, like=image) for logits in reversed(maps))


@register(stride=STRIDE, paper="Fan et al., MICCAI 2020, arXiv:2006.11392")
def pranet(
    *,
    width: int = 32,
    parts: Literal["BRP", "BR", "BP"] = "BRP",
    encoder: str = "res2net50d",
    pretrained: bool = True,
    weights: str | None = None,
) -> PraNet:
    """PraNet: a partial decoder's coarse map, refined by reverse attention from deep to shallow.

    width: channels of the partial decoder; reverse attention has 8 times as many at 1/32, twice as many above.
    parts: backbone, reverse attention, partial decoder: all (the paper), or one left out (two ablations).
    encoder: a timm encoder with maps at 1/8 to 1/32; by default Res2Net-50 v1b 26w 4s, the paper's.
    pretrained: download its ImageNet weights, from which all published numbers start.
    weights: read them from this local file instead.
    """
    check_multiple("width", width)
    if parts not in ("BRP", "BR", "BP"):
        raise ValueError(f"parts must be 'BRP', 'BR' or 'BP', got {parts!r}")
    body = Pyramid(encoder, pretrained=pretrained, weights=weights)
    _, *channels = body.channels
    c8, c16, c32 = channels
    reverse = [
        ReverseAttention(c32, 8 * width, kernel=5, depth=3, last=1),
        ReverseAttention(c16, 2 * width, kernel=3, depth=2, last=3),
        ReverseAttention(c8, 2 * width, kernel=3, depth=2, last=3),
    ]
    guess = CoarseMap(channels, width) if "P" in parts else DeepestMap(channels)
    return PraNet(body, guess, reverse if "R" in parts else [])


def _units() -> dict[str, str]:
    fields = {
        f"guess.fields.{i}.{ours}": f"rfb{i + 2}_1.{theirs}"
        for i in range(3)
        for ours, theirs in {
            "views.0": "branch0.0",
            **{f"views.{view}.{step}": f"branch{view}.{step}" for view in (1, 2, 3) for step in range(4)},
            "mix": "conv_cat",
            "shortcut": "conv_res",
        }.items()
    }
    decoder = {
        "weigh16": "conv_upsample1",
        "weigh8": "conv_upsample2",
        "weigh8_by_16": "conv_upsample3",
        "pass16": "conv_upsample4",
        "pass8": "conv_upsample5",
        "join16": "conv_concat2",
        "join8": "conv_concat3",
        "mix": "conv4",
    }
    reverse = {
        f"reverse.{i}.refine.{step}": f"ra{4 - i}_conv{step + 1}"
        for i, steps in enumerate((5, 4, 4))
        for step in range(steps)
    }
    return fields | {f"guess.decoder.{ours}": f"agg1.{theirs}" for ours, theirs in decoder.items()} | reverse


publish(
    "pranet",
    source="DengPingFan/PraNet",
    names={"encoder.body": "resnet", "guess.decoder.head": "agg1.conv5", **units(_units())},
    unused=["resnet.fc"],
    pretrained=False,
)
