"""U-Net++: U-Nets of every depth in one, with dense skips (Zhou et al., arXiv:1807.10165).

variant="paper" (the default) is the authors' Keras code, at the 9.04 M parameters that their paper prints: two
conv3-ReLU in a node, each followed by dropout, without BatchNorm, 2x2 transposed convolutions. variant="port" is the
most used PyTorch port: conv3-BatchNorm-ReLU, no dropout, maps upsampled bilinearly with all their channels. GMSRF-Net's
paper, which compares with U-Net++, does not say which one it ran. With deep supervision, of the paper's two ways to
predict, the deepest head is the prediction; the others are side outputs. The authors' L2 of 1e-4 on every kernel
belongs to the recipe, as weight_decay.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from orchestrator.models.blocks import check_multiple, check_size, like_keras
from orchestrator.models.registry import register

STRIDE = 16
NUM_LEVELS = 5


def convs(in_channels: int, channels: int, dropout: float, norm: bool) -> nn.Sequential:
    """Twice conv3 with bias, optional BatchNorm, ReLU, dropout if above zero."""
    layers: list[nn.Module] = []
    for into in (in_channels, channels):
        layers.append(nn.Conv2d(into, channels, 3, padding=1))
        if norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU(inplace=True))
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


class Node(nn.Module):
    """All maps of a level so far, and the newest of the level below, to one new map."""

    def __init__(self, num_maps: int, channels: int, dropout: float, *, port: bool) -> None:
        super().__init__()
        below, enlarged = 2 * channels, 2 * channels if port else channels
        self.up: nn.Module = (
            nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True)
            if port
            else nn.ConvTranspose2d(below, channels, 2, stride=2)
        )
        self.convs = convs(num_maps * channels + enlarged, channels, dropout, norm=port)

    def forward(self, maps: list[Tensor], below: Tensor) -> Tensor:
        """num_maps of (B, channels, 2h, 2w), below (B, 2 * channels, h, w) -> (B, channels, 2h, 2w)"""
        return self.convs(torch.cat([*maps, self.up(below)], dim=1))


class UNetPP(nn.Module):
    """A triangle of nodes: the encoder is column 0, and column j joins j maps of a level."""

    def __init__(self, base_channels: int, dropout: float, *, deep_supervision: bool, port: bool) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(NUM_LEVELS)]
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleList(
            convs(i, o, dropout, norm=port) for i, o in zip([3, *widths], widths, strict=False)
        )
        self.places = [
            (column, level) for column in range(1, NUM_LEVELS) for level in range(NUM_LEVELS - column)
        ]
        self.nodes = nn.ModuleList(
            Node(column, widths[level], dropout, port=port) for column, level in self.places
        )
        num_heads = NUM_LEVELS - 1 if deep_supervision else 1
        self.heads = nn.ModuleList(nn.Conv2d(base_channels, 1, 1) for _ in range(num_heads))
        if not port:
            self._start_like_keras()

    def _start_like_keras(self) -> None:
        like_keras(self)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 16 -> logits (B, 1, H, W)

        With deep supervision four, of the deepest U-Net first.
        """
        check_size(image, STRIDE)
        first, *deeper = self.encoder
        levels = [[first(image)]]
        for level in deeper:
            levels.append([level(self.pool(levels[-1][0]))])
        for (column, at), node in zip(self.places, self.nodes, strict=True):
            levels[at].append(node(levels[at], levels[at + 1][column - 1]))
        return tuple(head(x) for head, x in zip(self.heads, reversed(levels[0]), strict=False))


@register(stride=STRIDE, paper="Zhou et al., arXiv:1807.10165", published=9_040_000)
def unet_pp(
    *,
    base_channels: int = 32,
    deep_supervision: bool = True,
    dropout: float = 0.5,
    variant: Literal["paper", "port"] = "paper",
) -> UNetPP:
    """U-Net++: U-Nets of every depth in one, with dense skips.

    base_channels: channels at full size, doubled at each of four halvings.
    deep_supervision: a head for each of the four U-Nets, not only for the deepest.
    dropout: share of zeros after each convolution, in [0, 1); only for variant="paper".
    variant: see the module.
    """
    check_multiple("base_channels", base_channels)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout!r}")
    if variant not in ("paper", "port"):
        raise ValueError(f"variant must be 'paper' or 'port', got {variant!r}")
    port = variant == "port"
    return UNetPP(base_channels, 0.0 if port else dropout, deep_supervision=deep_supervision, port=port)
