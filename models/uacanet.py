"""UACANet: attention along rows and columns, then to uncertain areas of the last map (Kim et al., arXiv:2107.02368).

Two sizes: S has 32 channels, L has 256 and keeps the last stage at 1/16. Both dilate the encoder's late 3x3
convolutions, S by 2 and 4 although it keeps all strides. Where the authors' code differs from the text,
variant="paper" (the default) and variant="code", the source of all published numbers, are:
- axial attention: along the columns, and along the rows | maps are reshaped without being transposed, so on
  square maps both attend along the rows, with one W x W table for the whole map;
- context vectors: sums of features over foreground, background and uncertain area | the same reshape, so sums
  over a mixture of channels and positions.
Both have equally many parameters, and weights of one fit the other. As in the code, axial attention has no scaling
before its softmax, context vectors are sums and not means, and convolutions are initialized from He's normal
distribution. The encoder is built without its classifier: 24,855,874 (S) and 67,108,994 (L) parameters, 2,049,000 fewer
than stored.
"""

from __future__ import annotations

from functools import partial
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
from orchestrator.models.encoders import Pyramid, dilate
from orchestrator.models.published_weights import publish, units
from orchestrator.models.registry import register

STRIDE_S, STRIDE_L = 32, 16


class SelfAttention(nn.Module):
    """Attention of every position to its column (or row); the result is added with a factor that starts at 0.

    as_code: tokens are formed by a reshape of the map, as in the authors' code.
    """

    def __init__(self, channels: int, along: Literal["height", "width"], *, as_code: bool) -> None:
        super().__init__()
        self.along = along
        self.as_code = as_code
        self.query, self.key = (conv_bn(channels, channels // 8, 1) for _ in range(2))
        self.value = conv_bn(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)"""
        attend = self._reshaped if self.as_code else self._axial
        return x + self.gamma * attend(self.query(x), self.key(x), self.value(x))

    def _axial(self, *maps: Tensor) -> Tensor:
        if self.along == "height":
            maps = tuple(x.transpose(2, 3) for x in maps)
        query, key, value = (x.permute(0, 2, 3, 1) for x in maps)  # (B, lines, positions, channels)
        found = F.scaled_dot_product_attention(query, key, value, scale=1.0).permute(0, 3, 1, 2)
        return found.transpose(2, 3) if self.along == "height" else found

    def _reshaped(self, *maps: Tensor) -> Tensor:
        shape = maps[-1].shape
        places = shape[2] if self.along == "height" else shape[3]
        query, key, value = (x.reshape(shape[0], 1, -1, places).transpose(2, 3) for x in maps)
        found = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return found.transpose(2, 3).reshape(shape)


class ParallelAxialAttention(nn.Module):
    """Attention along the columns plus attention along the rows."""

    def __init__(self, channels: int, *, as_code: bool) -> None:
        super().__init__()
        self.height = SelfAttention(channels, "height", as_code=as_code)
        self.width = SelfAttention(channels, "width", as_code=as_code)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)"""
        return self.height(x) + self.width(x)


class Decoder(nn.Module):
    """Join three levels at the size of the finest and attend; no ReLU anywhere."""

    def __init__(self, channels: int, *, as_code: bool) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv_bn(3 * channels, channels),
            ParallelAxialAttention(channels, as_code=as_code),
            *(conv_bn(channels, channels) for _ in range(3)),
        )
        self.head = nn.Conv2d(channels, 1, 3, padding=1, bias=False)

    def forward(self, x2: Tensor, x3: Tensor, x4: Tensor) -> tuple[Tensor, Tensor]:
        """Three maps (B, C, *, *), finest first -> features (B, C, h, w) and logits (B, 1, h, w)"""
        up = partial(F.interpolate, size=x2.shape[-2:], mode="bilinear", align_corners=True)
        features = self.convs(torch.cat([up(x4), up(x3), x2], dim=1))
        return features, self.head(features)


class ContextAttention(nn.Module):
    """UACA: attention of every position to three vectors: polyp, background, and uncertain area of the last map."""

    def __init__(self, channels: int, *, as_code: bool) -> None:
        super().__init__()
        self.as_code = as_code
        self.query = self._twice(channels, 3)
        self.key = self._twice(channels, 1)
        self.value = self._twice(channels, 1)
        self.context = conv_bn(channels, channels, relu=True)
        self.mix = nn.Sequential(
            conv_bn(3 * channels, channels, relu=True), conv_bn(channels, channels, relu=True)
        )
        self.head = conv_bn(channels, 1, 1)

    @staticmethod
    def _twice(channels: int, kernel: int) -> nn.Sequential:
        return nn.Sequential(
            conv_bn(2 * channels, channels, kernel, relu=True),
            conv_bn(channels, channels, kernel, relu=True),
        )

    def forward(self, own: Tensor, deep: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """own (B, C, h, w), deep (B, C, *, *), logits (B, 1, *, *) -> features (B, C, h, w), logits (B, 1, h, w)"""
        x = torch.cat([own, resize(deep, like=own)], dim=1)
        logits = resize(logits, like=own)
        vectors = self._areas(logits).flatten(2) @ self._places(x)
        vectors = vectors.transpose(1, 2).unsqueeze(3)
        query, key, value = map(self._tokens, (self.query(x), self.key(vectors), self.value(vectors)))
        found = F.scaled_dot_product_attention(query, key, value)
        context = self.context(found.squeeze(1).transpose(1, 2).reshape(own.shape))
        features = self.mix(torch.cat([x, context], dim=1))
        return features, logits + self.head(features)

    @staticmethod
    def _areas(logits: Tensor) -> Tensor:
        """logits (B, 1, h, w) -> degree of polyp, background, uncertain: (B, 3, h, w) in 0..0.5"""
        sure = logits.sigmoid() - 0.5
        return torch.cat([F.relu(sure), F.relu(-sure), 0.5 - sure.abs()], dim=1)

    def _places(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, h * w, C)"""
        return x.reshape(x.shape[0], -1, x.shape[1]) if self.as_code else x.flatten(2).transpose(1, 2)

    @staticmethod
    def _tokens(x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 1, h * w, C)"""
        return x.flatten(2).transpose(1, 2).unsqueeze(1)


class UACANet(nn.Module):
    """Encoder, one receptive field with attention per level, decoder, and three context attentions."""

    def __init__(self, encoder: Pyramid, width: int, *, stride: int, as_code: bool) -> None:
        super().__init__()
        self.stride = stride
        attend = partial(ParallelAxialAttention, width, as_code=as_code)
        self.fields = nn.ModuleList(ReceptiveField(c, width, attend) for c in encoder.channels[1:])
        self.decoder = Decoder(width, as_code=as_code)
        self.contexts = nn.ModuleList(ContextAttention(width, as_code=as_code) for _ in range(3))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        self.normalize = ImageNetNormalize()
        self.encoder = encoder

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1] -> four logits (B, 1, H, W): the prediction, then the coarser ones

        H and W are multiples of 32 (S) or 16 (L).
        """
        check_size(image, self.stride)
        _, *maps = self.encoder(self.normalize(image))
        levels = [field(x) for field, x in zip(self.fields, maps, strict=True)]
        features, logits = self.decoder(*levels)
        outputs = [logits]
        for attend, level in zip(self.contexts, reversed(levels), strict=True):
            features, logits = attend(level, features, logits)
            outputs.append(logits)
        return tuple(resize(output, like=image) for output in reversed(outputs))


def _uacanet(
    size: Literal["S", "L"], width: int, encoder: str, pretrained: bool, weights: str | None, variant: str
) -> UACANet:
    check_multiple("width", width, of=8)  # queries and keys keep an eighth of the channels
    if variant not in ("paper", "code"):
        raise ValueError(f"variant must be 'paper' or 'code', got {variant!r}")
    pyramid = Pyramid(encoder, pretrained=pretrained, weights=weights)
    if not all(hasattr(pyramid.body, stage) for stage in ("layer3", "layer4")):
        raise ValueError(f"encoder {encoder!r} is not a ResNet; use resnet50 or res2net50d")
    if size == "S":
        dilate(pyramid.body.layer3, 2)
        dilate(pyramid.body.layer4, 4)
    else:
        dilate(pyramid.body.layer4, 2, keep_size=True)
    stride = STRIDE_S if size == "S" else STRIDE_L
    return UACANet(pyramid, width, stride=stride, as_code=variant == "code")


@register(stride=STRIDE_S, paper="Kim et al., ACM MM 2021, arXiv:2107.02368")
def uacanet_s(
    *,
    width: int = 32,
    encoder: str = "res2net50d",
    pretrained: bool = True,
    weights: str | None = None,
    variant: Literal["paper", "code"] = "paper",
) -> UACANet:
    """UACANet-S: axial attention, then attention to polyp, background and uncertain areas; 32 channels.

    width: channels after the encoder, a multiple of 8.
    encoder: a timm ResNet; by default Res2Net-50 v1b 26w 4s, the paper's.
    pretrained: download its ImageNet weights, from which all published numbers start.
    weights: read them from this local file instead.
    variant: see the module.
    """
    return _uacanet("S", width, encoder, pretrained, weights, variant)


@register(stride=STRIDE_L, paper="Kim et al., ACM MM 2021, arXiv:2107.02368")
def uacanet_l(
    *,
    width: int = 256,
    encoder: str = "res2net50d",
    pretrained: bool = True,
    weights: str | None = None,
    variant: Literal["paper", "code"] = "paper",
) -> UACANet:
    """UACANet-L: axial attention, then attention to polyp, background and uncertain areas; 256 channels.

    Its parameters are those of uacanet_s.
    """
    return _uacanet("L", width, encoder, pretrained, weights, variant)


def _attention_names(ours: str, theirs: str) -> dict[str, str]:
    axes = {f"{ours}.height": f"{theirs}.Hattn", f"{ours}.width": f"{theirs}.Wattn"}
    parts = ("query", "key", "value")
    return axes | units({f"{at}.{part}": f"{to}.{part}_conv" for at, to in axes.items() for part in parts})


def _field_names(ours: str, theirs: str) -> dict[str, str]:
    convs = {"views.0": "branch0", "mix": "conv_cat", "shortcut": "conv_res"}
    convs |= {f"views.{i}.{at}": f"branch{i}.conv{n}" for i in (1, 2, 3) for n, at in enumerate((0, 1, 2, 4))}
    names = units({f"{ours}.{at}": f"{theirs}.{to}" for at, to in convs.items()})
    for i in (1, 2, 3):
        names |= _attention_names(f"{ours}.views.{i}.3", f"{theirs}.branch{i}")
    return names


def _context_names(ours: str, theirs: str) -> dict[str, str]:
    convs = {f"{part}.{n}": f"conv_{part}.{n}" for part in ("query", "key", "value") for n in (0, 1)}
    convs |= {"context": "conv_out1", "mix.0": "conv_out2", "mix.1": "conv_out3", "head": "conv_out4"}
    return units({f"{ours}.{at}": f"{theirs}.{to}" for at, to in convs.items()})


def _names() -> dict[str, str]:
    names = {"encoder.body": "resnet", "decoder.head": "decoder.conv5.conv"}
    names |= units({f"decoder.convs.{at}": f"decoder.conv{n}" for n, at in enumerate((0, 2, 3, 4), start=1)})
    names |= _attention_names("decoder.convs.1", "decoder")
    for i, level in enumerate((2, 3, 4)):
        names |= _field_names(f"fields.{i}", f"context{level}")
        names |= _context_names(f"contexts.{2 - i}", f"attention{level}")
    return names


UNUSED = ["resnet.fc"]
publish(
    "uacanet_s", source="plemeri/UACANet", names=_names(), unused=UNUSED, variant="code", pretrained=False
)
publish(
    "uacanet_l", source="plemeri/UACANet", names=_names(), unused=UNUSED, variant="code", pretrained=False
)
