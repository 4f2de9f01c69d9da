"""MSRF-Net: pairs of scales that exchange features in dense blocks, and a stream for shape (Srivastava et al.,
arXiv:2105.07451).

The authors' repository has two wirings, and neither file runs as committed. Values of `variant`:
- "paper" (the default): all ten blocks in a row, as the figure shows; in a block both scales have five convolutions and
  get the other's newest features; in the shape stream a gate multiplies the features that pass it, and its residual
  blocks have two convolutions; its edges enter the last stage of the decoder;
- "code": model.py, which the repository's training runs. Blocks 9 and 10 start from what blocks 6 and 7 started from,
  so that 6, 7 and 8 have no effect; in a block the coarse scale's first convolution is thrown away, and the second
  exchange sends features of layer 1; a gate's one-channel map takes the place of the features; of two convolutions in
  a residual block both read its input, so that the first has no effect;
- "script": msrf.py, a training script. The ten blocks in a row; all else as "code", but the edges are unused.
Parts without effect are not built. "code" and "script" have their sizes according to Keras, 18,595,607 and 24,597,278
with statistics; which of them made the published numbers is not stated. "paper" has 20,410,111: three blocks more than
"code", but in each the coarse scale passes on growth_rate channels of its first layer, in the code all of its input.
Side outputs are upsampled before the sigmoid, in the code after it. The second input of the authors, edges found in
the image by Canny's method, is computed here. Constants, initial weights and padding are those of Keras.

Outputs: the mask, the mask from maps at 1/2 and at 1/4, and the outline of the mask; `supervision` declares this,
and the double weight of the first, as in the code.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestrator.models.blocks import (
    SqueezeExcite,
    activated_conv,
    check_multiple,
    check_size,
    conv3,
    doubling_conv3,
    like_keras,
    resize,
)
from orchestrator.models.canny import canny
from orchestrator.models.registry import register
from orchestrator.models.supervision import Supervision

Variant = Literal["paper", "code", "script"]

STRIDE = 8
DROPOUT = 0.2
LEAK = 0.25
RESIDUAL = 0.4  # share of what a block, or all of them, adds to its input
REDUCTION = 16
CANNY = (10, 1000)  # thresholds

# The finer scale of each block's pair.
TEN_BLOCKS = (0, 2, 0, 2, 1, 0, 2, 1, 0, 2)
# As in model.py, where blocks 6 to 8 have no effect.
SEVEN_BLOCKS = (0, 2, 0, 2, 1, 0, 2)


def leaky(conv: nn.Module) -> nn.Sequential:
    """A convolution and LeakyReLU."""
    return nn.Sequential(conv, nn.LeakyReLU(LEAK, inplace=True))


def encoder_stage(in_channels: int, channels: int, *, squeeze: bool) -> nn.Sequential:
    """Twice conv3 and ReLU, then BatchNorm, then optionally squeeze-excite."""
    return nn.Sequential(
        conv3(in_channels, channels),
        nn.ReLU(inplace=True),
        conv3(channels, channels),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(channels),
        *([SqueezeExcite(channels, REDUCTION, bias=True)] if squeeze else []),
    )


class DualScaleDenseFusion(nn.Module):
    """DSDF: two scales of five densely connected layers each, which exchange features before layers 2 to 5."""

    def __init__(self, fine: int, coarse: int, growth: int, *, as_code: bool) -> None:
        super().__init__()
        # The layer whose features are sent; 0 is the input.
        self.sent = (0, 1, 3, 4) if as_code else (1, 2, 3, 4)
        self.first_fine = leaky(conv3(fine, growth))
        self.first_coarse = nn.LeakyReLU(LEAK) if as_code else leaky(conv3(coarse, growth))
        fine_widths = [fine, *[growth] * 4]
        coarse_widths = [coarse, coarse if as_code else growth, *[growth] * 3]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.fine, self.coarse = nn.ModuleList(), nn.ModuleList()
        for layer, sent in enumerate(self.sent, start=2):
            last = layer == 5
            self.down.append(leaky(conv3(fine_widths[sent], growth, stride=2)))
            self.up.append(leaky(doubling_conv3(coarse_widths[sent], growth)))
            self.fine.append(leaky(conv3(sum(fine_widths[:layer]) + growth, fine if last else growth)))
            self.coarse.append(leaky(conv3(sum(coarse_widths[:layer]) + growth, coarse if last else growth)))

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """fine (B, fine, 2h, 2w), coarse (B, coarse, h, w) -> two of the same shapes"""
        xs, ys = [fine, self.first_fine(fine)], [coarse, self.first_coarse(coarse)]
        steps = zip(self.sent, self.down, self.up, self.fine, self.coarse, strict=True)
        for sent, down, up, next_fine, next_coarse in steps:
            to_coarse, to_fine = down(xs[sent]), up(ys[sent])
            xs.append(next_fine(torch.cat([*xs, to_fine], dim=1)))
            ys.append(next_coarse(torch.cat([*ys, to_coarse], dim=1)))
        return fine + RESIDUAL * xs[-1], coarse + RESIDUAL * ys[-1]


class SubNetwork(nn.Module):
    """Blocks on pairs of neighboring scales, one after the other, and a residual around them all."""

    def __init__(self, widths: list[int], growth_rate: int, *, variant: Variant) -> None:
        super().__init__()
        self.pairs = SEVEN_BLOCKS if variant == "code" else TEN_BLOCKS
        self.blocks = nn.ModuleList(
            DualScaleDenseFusion(widths[i], widths[i + 1], growth_rate * 2**i, as_code=variant != "paper")
            for i in self.pairs
        )

    def forward(self, scales: list[Tensor]) -> list[Tensor]:
        """Four maps, finest first -> four of the same shapes"""
        maps = list(scales)
        for i, block in zip(self.pairs, self.blocks, strict=True):
            maps[i], maps[i + 1] = block(maps[i], maps[i + 1])
        return [start + RESIDUAL * x for start, x in zip(scales, maps, strict=True)]


class ShapeResidual(nn.Module):
    """Two conv3 and a residual; in the code one conv3, and where its input has one channel, all get that one."""

    def __init__(self, channels: int, *, in_channels: int, as_code: bool) -> None:
        super().__init__()
        body: list[nn.Module] = [conv3(in_channels, channels), nn.BatchNorm2d(channels)]
        if not as_code:
            body += [nn.ReLU(inplace=True), conv3(channels, channels), nn.BatchNorm2d(channels)]
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H, W)"""
        return F.relu(self.body(x) + x)


class ShapeGate(nn.Module):
    """Gate from a deeper scale: narrow the features, compare, and multiply; in the code, replace."""

    def __init__(self, channels: int, deep_channels: int, *, as_code: bool) -> None:
        super().__init__()
        self.as_code = as_code
        self.narrow = nn.Conv2d(2 * channels, channels, 1)
        self.look_deep = nn.Conv2d(deep_channels, 1, 1)
        hidden = 2 * channels + 1 if as_code else channels + 1
        self.compare = nn.Sequential(
            nn.BatchNorm2d(channels + 1),
            nn.Conv2d(channels + 1, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, 1, 1),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )
        self.residual = ShapeResidual(channels, in_channels=1 if as_code else channels, as_code=as_code)

    def forward(self, x: Tensor, deep: Tensor) -> Tensor:
        """x (B, 2 * channels, H, W), deep (B, deep_channels, h, w) -> (B, channels, H, W)"""
        x = self.narrow(x)
        seen = resize(self.look_deep(deep), like=x)
        weight = self.compare(torch.cat([x, seen], dim=1))
        return self.residual(weight if self.as_code else weight * x)


class ShapeStream(nn.Module):
    """Edges at full size from the scales at 1/2, 1/4 and 1/8."""

    def __init__(self, widths: list[int], *, as_code: bool) -> None:
        super().__init__()
        width, s2, s4, s8 = widths
        self.start = nn.Conv2d(s2, width, 1)
        self.residual = ShapeResidual(width, in_channels=width, as_code=as_code)
        self.gate4 = ShapeGate(width // 2, s4, as_code=as_code)
        self.gate8 = ShapeGate(width // 4, s8, as_code=as_code)
        self.head = nn.Sequential(nn.Conv2d(width // 4, width // 8, 1), nn.Conv2d(width // 8, 1, 1))

    def forward(self, scales: list[Tensor]) -> Tensor:
        """Four maps, finest first -> logits of edges (B, 1, H, W)"""
        s1, s2, s4, s8 = scales
        x = self.residual(resize(self.start(s2), like=s1))
        return self.head(self.gate8(self.gate4(x, s4), s8))


class AttentionGate(nn.Module):
    """Attention weights for every position of a skip, from the deeper map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look_at_skip = nn.Conv2d(channels, channels, 2, stride=2)
        self.look_at_deep = nn.Conv2d(2 * channels, channels, 1)
        self.look = nn.Conv2d(channels, 1, 1)
        self.up = nn.ConvTranspose2d(1, 1, 2, stride=2)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """skip (B, channels, 2h, 2w), deep (B, 2 * channels, h, w) -> (B, channels, 2h, 2w)"""
        combined = F.relu(self.look_at_skip(skip) + self.look_at_deep(deep))
        return self.norm(skip * self.up(self.look(combined).sigmoid()))


class DualAttention(nn.Module):
    """Skip and deeper map, mixed, then weighted by channel and by position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.mix = nn.Sequential(
            conv3(2 * channels, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.by_channel = SqueezeExcite(channels, REDUCTION, bias=True)
        self.by_place = nn.Sequential(
            nn.Conv2d(channels, channels // 4, 1),
            activated_conv(channels // 4, 1, kernel=1),
            nn.Sigmoid(),
        )

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """skip (B, channels, 2h, 2w), deep (B, 2 * channels, h, w) -> (B, channels, 2h, 2w)"""
        x = self.mix(torch.cat([skip, self.up(deep)], dim=1))
        return self.by_channel(x) * (1 + self.by_place(x))


class DecoderStage(nn.Module):
    """Three ways to combine a skip with a deeper map, then a residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = AttentionGate(channels)
        self.up = nn.ConvTranspose2d(2 * channels, channels, 1, stride=2, output_padding=1)
        self.attend = DualAttention(channels)
        self.mix = nn.Conv2d(3 * channels, channels, 1)
        self.body = nn.Sequential(activated_conv(channels, channels), activated_conv(channels, channels))
        self.side = nn.Conv2d(channels, 1, 1)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """skip (B, channels, 2h, 2w), deep (B, 2 * channels, h, w) -> (B, channels, 2h, 2w)"""
        joined = [self.up(deep), self.gate(skip, deep), self.attend(skip, deep)]
        x = self.mix(torch.cat(joined, dim=1))
        return x + self.body(x)


class LastStage(nn.Module):
    """The finest scale, a deeper map and, except in "script", edges, to logits."""

    def __init__(self, channels: int, *, edges: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1)
        self.mix = nn.Sequential(nn.Conv2d(2 * channels, channels, 1), nn.ReLU(inplace=True))
        self.body = nn.Sequential(conv3(channels, channels), nn.ReLU(inplace=True), nn.BatchNorm2d(channels))
        if edges:
            self.mix_edges = nn.Sequential(
                nn.Conv2d(2, 1, 1), nn.Sigmoid(), nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.ReLU()
            )
        self.last = nn.Sequential(conv3(channels + edges, channels), nn.ReLU(inplace=True))
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, skip: Tensor, deep: Tensor, edges: Tensor | None) -> Tensor:
        """skip (B, channels, H, W), deep (B, 2 * channels, H/2, W/2), edges (B, 2, H, W) -> (B, 1, H, W)"""
        x = self.mix(torch.cat([self.up(deep), skip], dim=1))
        x = x + self.body(x)
        if edges is not None:
            x = torch.cat([x, self.mix_edges(edges)], dim=1)
        return self.head(self.last(x))


class MSRFNet(nn.Module):
    """Encoder of four scales, exchange blocks, a shape stream, a decoder with attention."""

    supervision = (Supervision(weight=2.0), Supervision(), Supervision(), Supervision(of="outline"))

    def __init__(self, base_channels: int, growth_rate: int, variant: Variant) -> None:
        super().__init__()
        widths = [base_channels * 2**scale for scale in range(4)]
        as_code = variant != "paper"
        self.with_edges = variant != "script"
        self.encoder = nn.ModuleList(
            encoder_stage(i, o, squeeze=o != widths[-1]) for i, o in zip([3, *widths], widths, strict=False)
        )
        self.pool = nn.Sequential(nn.MaxPool2d(2), nn.Dropout(DROPOUT))
        self.exchange = SubNetwork(widths, growth_rate, variant=variant)
        self.shape = ShapeStream(widths, as_code=as_code)
        self.decoder4, self.decoder2 = DecoderStage(widths[2]), DecoderStage(widths[1])
        self.decoder1 = LastStage(widths[0], edges=self.with_edges)
        self._start_like_keras()

    def _start_like_keras(self) -> None:
        like_keras(self)
        last = self.decoder1
        for part in (*self.encoder, last.mix, last.body, last.last):
            for module in part.children():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for gate in (self.decoder4.gate, self.decoder2.gate):
            nn.init.normal_(gate.look.weight, std=0.02)
            gate.norm.eps = 1e-5

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 8 -> four logits (B, 1, H, W)

        The prediction, the mask from 1/2 and from 1/4, and the outline of the mask.
        """
        check_size(image, STRIDE)
        first, *deeper = self.encoder
        scales = [first(image)]
        for stage in deeper:
            scales.append(stage(self.pool(scales[-1])))
        scales = self.exchange(scales)
        s1, s2, s4, s8 = scales
        outline = self.shape(scales)
        edges = torch.cat([outline.sigmoid(), canny(image, *CANNY)], dim=1) if self.with_edges else None
        d4 = self.decoder4(s4, s8)
        d2 = self.decoder2(s2, d4)
        sides = (resize(stage.side(x), like=image) for stage, x in ((self.decoder2, d2), (self.decoder4, d4)))
        return self.decoder1(s1, d2, edges), *sides, outline


@register(stride=STRIDE, paper="Srivastava et al., arXiv:2105.07451")
def msrf_net(*, base_channels: int = 32, growth_rate: int = 16, variant: Variant = "paper") -> MSRFNet:
    """MSRF-Net: pairs of scales exchange features in dense blocks; a separate stream finds the outline.

    base_channels: channels at full size, doubled at each of three halvings; a multiple of 8.
    growth_rate: channels that each layer of a block adds on the finest pair of scales, doubled on the next two.
    variant: see the module.
    """
    check_multiple("base_channels", base_channels, of=8)  # the shape stream ends at an eighth of them
    check_multiple("growth_rate", growth_rate)
    if variant not in ("paper", "code", "script"):
        raise ValueError(f"variant must be 'paper', 'code' or 'script', got {variant!r}")
    return MSRFNet(base_channels, growth_rate, variant)
