"""GMSRF-Net: four scales that exchange features in every layer (Srivastava et al., arXiv:2111.10614).

Where the paper and its authors' code differ, variant="paper" (the default) and variant="code" are:
- encoder: ResNet50, maps at 1/4 to 1/32 | Res2Net50 v1b after a new stem, maps at 1/1 to 1/8, at high cost;
- pixels: normalized like ImageNet | in [0, 1];
- a residual around all modules: no | yes;
- last conv3, to one channel: with a bias | with BatchNorm. The code's sigmoid after it, which its loss
  applies a second time, is left out: both end in logits;
- side outputs: upsampled bilinearly | by nearest neighbor.
Where the text is silent, or too short to build from, both follow the code:
- widths of the scales: width times 1, 2, 4, 8; growth rates: growth_rate times 1, 1, 2, 2 (in the code 32);
- fusion: 1x1, attention, squeeze-excite (reduction 8), conv3, where equation 2 has a single conv3;
- attention: conv3, 1x1, sigmoid, plus one; squeeze-excite comes before the conv3, in the figure after it;
- no ReLU after BatchNorm; relu=True adds one, except at the end of residual branches and before logits.
Left out: the code's third module, built but never run, and BatchNorms that are declared but never called. The
rest of variant="code" has as many parameters, 47,043,853, as the authors' forward pass uses.
As in the code, a chain of resamplings leads from every scale to every other one. Chains from one scale in the
same direction start as one convolution, and their results are computed once, for attention and for fusion.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestrator.models.blocks import (
    ImageNetNormalize,
    ReceptiveField,
    SqueezeExcite,
    check_multiple,
    check_size,
    conv_bn,
    resize,
)
from orchestrator.models.encoders import FullResolution, Pyramid
from orchestrator.models.registry import register

STRIDE = 32
NUM_SCALES = 4
NUM_LAYERS = 4  # of a module, including its first convolution


class Chains(nn.Module):
    """Chains from one scale to all coarser (or all finer) ones, halving (or doubling) the size step by step.

    Every target has its own chain of weights; chains that have not arrived run as one grouped convolution.
    """

    def __init__(self, in_channels: int, channels: int, num_targets: int, *, finer: bool) -> None:
        super().__init__()
        conv = nn.ConvTranspose2d if finer else nn.Conv2d
        self.channels = channels
        self.steps = nn.ModuleList()
        for under_way in range(num_targets, 0, -1):
            first = under_way == num_targets
            into, groups = (in_channels, 1) if first else (under_way * channels, under_way)
            step = conv(into, under_way * channels, 4, stride=2, padding=1, groups=groups, bias=False)
            self.steps.append(step)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, h, w) -> (B, channels, *, *) for each target, the nearest scale first"""
        arrived = []
        for step in self.steps:
            x = step(x).relu_()
            arrived.append(x[:, : self.channels])
            x = x[:, self.channels :]
        return arrived


class Exchange(nn.Module):
    """Resampling of every scale's newest map to all other scales."""

    def __init__(self, growth: list[int], channels: int) -> None:
        super().__init__()
        last = NUM_SCALES - 1
        self.coarser = nn.ModuleList(
            Chains(growth[scale], channels, last - scale, finer=False) for scale in range(last)
        )
        self.finer = nn.ModuleList(
            Chains(growth[scale], channels, scale, finer=True) for scale in range(1, NUM_SCALES)
        )

    def forward(self, newest: list[Tensor]) -> list[Tensor]:
        """Four maps (B, growth[i], h_i, w_i) -> four maps (B, 3 * channels, h_i, w_i)"""
        arrived: list[list[Tensor]] = [[] for _ in newest]
        for source, chains in enumerate(self.coarser):
            for distance, x in enumerate(chains(newest[source]), start=1):
                arrived[source + distance].append(x)
        for source, chains in enumerate(self.finer, start=1):
            for distance, x in enumerate(chains(newest[source]), start=1):
                arrived[source - distance].append(x)
        return [torch.cat(maps, dim=1) for maps in arrived]


class CrossScaleAttention(nn.Module):
    """CMSA: attention from the other scales; between 1 and 2, so that nothing is suppressed."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.Conv2d(channels, 1, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, others: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, 1, h, w) in 1..2"""
        # Nothing is between the two convolutions, so they are one, with a single channel instead of `channels`.
        conv3, pointwise = self.look.get_parameter("0.weight"), self.look.get_parameter("1.weight")
        weight = (pointwise.flatten(1) @ conv3.flatten(1)).view(1, *conv3.shape[1:])
        return 1 + F.conv2d(others, weight, padding=1).sigmoid()


class Fusion(nn.Module):
    """One scale of one layer: mix all its maps, attend, select features (MSFS), convolve."""

    def __init__(
        self, in_channels: int, mixed: int, out_channels: int, channels: int, *, relu: bool, last: bool
    ) -> None:
        super().__init__()
        self.mix = conv_bn(in_channels, mixed, 1, relu=relu)
        self.attention = CrossScaleAttention(3 * channels, channels)
        self.select = SqueezeExcite(mixed)
        self.conv = conv_bn(mixed, out_channels, relu=relu and not last)

    def forward(self, known: list[Tensor], others: Tensor) -> Tensor:
        """known maps of this scale and others (B, 3 * channels, h, w) -> (B, out_channels, h, w)"""
        mixed = self.mix(torch.cat([*known, others], dim=1))
        mixed = mixed * self.attention(others)
        return self.conv(self.select(mixed))


class Layer(nn.Module):
    """Exchange between all scales, then fusion of each scale."""

    def __init__(
        self, number: int, widths: list[int], growth: list[int], channels: int, *, relu: bool
    ) -> None:
        super().__init__()
        last = number == NUM_LAYERS
        self.exchange = Exchange(growth, channels)
        self.fuse = nn.ModuleList()
        for width, k in zip(widths, growth, strict=True):
            known = width + k * (number - 1) + 3 * channels
            mixed, out = (known, width) if last else (width, k)
            self.fuse.append(Fusion(known, mixed, out, channels, relu=relu, last=last))

    def forward(self, known: list[list[Tensor]]) -> list[Tensor]:
        """Maps of each scale so far -> the new map of each scale"""
        others = self.exchange([maps[-1] for maps in known])
        return [fuse(maps, exchanged) for fuse, maps, exchanged in zip(self.fuse, known, others, strict=True)]


class GMSRFModule(nn.Module):
    """Four densely connected layers over all scales, with a residual for each scale."""

    def __init__(self, widths: list[int], growth: list[int], channels: int, *, relu: bool) -> None:
        super().__init__()
        self.first = nn.ModuleList(conv_bn(w, k, relu=relu) for w, k in zip(widths, growth, strict=True))
        self.layers = nn.ModuleList(
            Layer(number, widths, growth, channels, relu=relu) for number in range(2, NUM_LAYERS + 1)
        )

    def forward(self, scales: list[Tensor]) -> list[Tensor]:
        """Four maps (B, widths[i], h_i, w_i) -> four of the same shapes"""
        known = [[x] for x in scales]
        newest = [conv(x) for conv, x in zip(self.first, scales, strict=True)]
        for layer in self.layers:
            for maps, x in zip(known, newest, strict=True):
                maps.append(x)
            newest = layer(known)
        return [change.add_(x) for x, change in zip(scales, newest, strict=True)]


class Decoder(nn.Module):
    """From the coarsest scale to the finest: transposed conv, concatenation, conv3."""

    def __init__(self, widths: list[int], *, relu: bool, final_norm: bool) -> None:
        super().__init__()
        w1, w2, w3, w4 = widths
        self.up3, self.up2, self.up1 = (
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1) for width in (w3, w2, w1)
        )
        self.conv3, self.conv2 = (self._conv(width, relu) for width in (w3, w2))
        final = conv_bn(w1, 1) if final_norm else nn.Conv2d(w1, 1, 3, padding=1)
        self.head = nn.Sequential(conv_bn(2 * w1, w1, relu=relu), final)
        self.side4, self.side3, self.side2 = (nn.Conv2d(width, 1, 1) for width in (w4, w3, w2))

    @staticmethod
    def _conv(width: int, relu: bool) -> nn.Module:
        conv = nn.Conv2d(2 * width, width, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.ReLU(inplace=True)) if relu else conv

    def forward(self, scales: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Four maps (B, widths[i], h_i, w_i), finest first -> four logits (B, 1, h_i, w_i), finest first"""
        x1, x2, x3, d4 = scales
        d3 = self.conv3(torch.cat([self.up3(d4), x3], dim=1))
        d2 = self.conv2(torch.cat([self.up2(d3), x2], dim=1))
        d1 = self.head(torch.cat([self.up1(d2), x1], dim=1))
        return d1, self.side2(d2), self.side3(d3), self.side4(d4)


class GMSRFNet(nn.Module):
    """Encoder, one reduction per scale, exchange modules, decoder with side outputs."""

    def __init__(
        self,
        encoder: Pyramid | FullResolution,
        *,
        k: int,
        num_modules: int,
        width: int,
        relu: bool,
        as_code: bool,
    ) -> None:
        super().__init__()
        widths = [width * factor for factor in (1, 2, 4, 8)]
        growth = [k * factor for factor in (1, 1, 2, 2)]
        finest, *coarser = encoder.channels
        self.as_code = as_code
        self.stride = 8 if as_code else STRIDE
        self.normalize = nn.Identity() if as_code else ImageNetNormalize()
        self.encoder = encoder
        self.reduce = nn.ModuleList([conv_bn(finest, widths[0], 1, relu=relu)])
        self.reduce.extend(ReceptiveField(i, o) for i, o in zip(coarser, widths[1:], strict=True))
        self.exchanges = nn.Sequential(
            *(GMSRFModule(widths, growth, width, relu=relu) for _ in range(num_modules))
        )
        self.decoder = Decoder(widths, relu=relu, final_norm=as_code)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1] -> four logits (B, 1, H, W), the prediction first

        H and W are multiples of 32, or of 8 with variant="code".
        """
        check_size(image, self.stride)
        image = image.contiguous(memory_format=torch.channels_last)
        maps = self.encoder(self.normalize(image))
        reduced = [reduce(x) for reduce, x in zip(self.reduce, maps, strict=True)]
        scales = self.exchanges(reduced)
        if self.as_code:
            scales = [x.add_(start) for x, start in zip(scales, reduced, strict=True)]
        prediction, *sides = self.decoder(scales)
        mode: Literal["bilinear", "nearest"] = "nearest" if self.as_code else "bilinear"
        return resize(prediction, like=image), *(resize(side, like=image, mode=mode) for side in sides)


@register(stride=STRIDE, paper="Srivastava et al., arXiv:2111.10614")
def gmsrf_net(
    *,
    growth_rate: int = 32,
    num_modules: int = 2,
    width: int = 32,
    encoder: str | None = None,
    pretrained: bool = True,
    weights: str | None = None,
    relu: bool = False,
    variant: Literal["paper", "code"] = "paper",
) -> GMSRFNet:
    """GMSRF-Net: four scales that exchange features in every layer; growth_rate is the paper's k.

    width: channels of the finest scale, and of the maps that scales exchange.
    encoder: a timm encoder with maps at 1/4 to 1/32 (variant="code": a ResNet); by default the variant's own.
    pretrained: download its ImageNet weights, from which all published numbers start.
    weights: read them from this local file instead.
    relu, variant: see the module.
    """
    check_multiple("growth_rate", growth_rate)
    check_multiple("num_modules", num_modules, most=16)
    check_multiple("width", width, of=8)  # squeeze-excite keeps an eighth of the channels
    if variant not in ("paper", "code"):
        raise ValueError(f"variant must be 'paper' or 'code', got {variant!r}")
    as_code = variant == "code"
    name = encoder if encoder is not None else ("res2net50d" if as_code else "resnet50")
    make_encoder = FullResolution if as_code else Pyramid
    body = make_encoder(name, pretrained=pretrained, weights=weights)
    return GMSRFNet(body, k=growth_rate, num_modules=num_modules, width=width, relu=relu, as_code=as_code)
