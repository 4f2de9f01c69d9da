"""Blocks used by several networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def check_size(image: Tensor, stride: int) -> None:
    """Raise ValueError for (B, 3, H, W) with H or W not a multiple of `stride`, with valid sizes."""
    height, width = image.shape[-2:]
    if height % stride == 0 and width % stride == 0:
        return
    sizes = [f"{-(-height // stride) * stride} x {-(-width // stride) * stride}"]
    if min(height, width) >= stride:
        sizes.insert(0, f"{height // stride * stride} x {width // stride * stride}")
    raise ValueError(
        f"height and width must be multiples of {stride}, got {height} x {width}; use {' or '.join(sizes)}"
    )


MOST_CHANNELS = 1024  # of a parameter that sets a width


def check_multiple(name: str, value: int, of: int = 1, most: int = MOST_CHANNELS) -> None:
    """Raise ValueError for a parameter that is not a positive multiple of `of`, or is larger than `most`."""
    expected = "a positive integer" if of == 1 else f"a positive multiple of {of}"
    if not isinstance(value, int) or value < of or value % of:
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    if value > most:
        raise ValueError(f"{name} must be {expected} of at most {most:,}, got {value:,}")


def resize(x: Tensor, like: Tensor, mode: Literal["bilinear", "nearest"] = "bilinear") -> Tensor:
    """x (B, C, h, w) -> (B, C, H, W) with the H and W of `like`; corners are not aligned."""
    return F.interpolate(x, size=like.shape[-2:], mode=mode)


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel: int | tuple[int, int] = 3,
    *,
    dilation: int = 1,
    relu: bool = False,
) -> nn.Sequential:
    """A convolution without bias that keeps H and W, BatchNorm, and optionally ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding="same", dilation=dilation, bias=False)
    layers: list[nn.Module] = [conv, nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Twice conv3, BatchNorm, ReLU."""
    return nn.Sequential(
        conv_bn(in_channels, out_channels, relu=True), conv_bn(out_channels, out_channels, relu=True)
    )


class ImageNetNormalize(nn.Module):
    """RGB in [0, 1] -> zero mean, unit variance over ImageNet, the input of pretrained encoders.

    Some were trained with another mean and deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float] = (0.485, 0.456, 0.406), std: Sequence[float] = (0.229, 0.224, 0.225)
    ) -> None:
        super().__init__()
        # Constants, not state: a checkpoint contains only learned numbers.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W)"""
        return (image - self.mean) / self.std


class SqueezeExcite(nn.Module):
    """Channel weights from the average of the whole map."""

    def __init__(self, channels: int, reduction: int = 8, *, bias: bool = False) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1, bias=bias),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)"""
        return x * self.weigh(x)


class ChannelsThenPlaces(nn.Module):
    """Attention over channels, then over places, each from maxima and means (CBAM, arXiv:1807.06521)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )
        self.look = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) -> (B, channels, h, w)"""
        most, mean = x.amax(dim=(2, 3), keepdim=True), x.mean(dim=(2, 3), keepdim=True)
        x = x * (self.squeeze(most) + self.squeeze(mean)).sigmoid()
        places = torch.stack([x.amax(dim=1), x.mean(dim=1)], dim=1)
        return x * self.look(places).sigmoid()


class ReceptiveField(nn.Module):
    """RFB as in PraNet: four branches of growing receptive field, mixed, plus a shortcut; ReLU on the sum only.

    `attend` creates the layer before the dilated convolution of the three wide branches; the identity by default.
    """

    def __init__(
        self, in_channels: int, channels: int, attend: Callable[[], nn.Module] | None = None
    ) -> None:
        super().__init__()
        reaching = [
            nn.Sequential(
                conv_bn(in_channels, channels, 1),
                conv_bn(channels, channels, (1, reach)),
                conv_bn(channels, channels, (reach, 1)),
                *([attend()] if attend else []),
                conv_bn(channels, channels, dilation=reach),
            )
            for reach in (3, 5, 7)
        ]
        self.views = nn.ModuleList([conv_bn(in_channels, channels, 1), *reaching])
        self.mix = conv_bn(4 * channels, channels)
        self.shortcut = conv_bn(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, h, w)"""
        mixed = self.mix(torch.cat([view(x) for view in self.views], dim=1))
        return mixed.add_(self.shortcut(x)).relu_()


def conv3(in_channels: int, channels: int, stride: int = 1) -> nn.Module:
    """conv3 with bias; a strided one pads only right and bottom, as Keras does for even sizes."""
    if stride == 1:
        return nn.Conv2d(in_channels, channels, 3, padding=1)
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(in_channels, channels, 3, stride=stride))


def doubling_conv3(in_channels: int, channels: int) -> nn.Sequential:
    """The transpose of a conv3 with stride 2, cropped by that one's padding: (h, w) -> (2h, 2w)."""
    return nn.Sequential(nn.ConvTranspose2d(in_channels, channels, 3, stride=2), nn.ZeroPad2d((0, -1, 0, -1)))


def activated_conv(in_channels: int, channels: int, stride: int = 1, *, kernel: int = 3) -> nn.Sequential:
    """BatchNorm, ReLU, then conv3, or with kernel = 1 a 1x1; both with bias."""
    conv = conv3(in_channels, channels, stride) if kernel == 3 else nn.Conv2d(in_channels, channels, kernel)
    return nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), conv)


def projection(in_channels: int, channels: int, stride: int = 1) -> nn.Sequential:
    """1x1 with bias, and BatchNorm: the shortcut of a block that changes the number of channels."""
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride), nn.BatchNorm2d(channels))


class Residual(nn.Module):
    """A body plus a shortcut, then optionally squeeze-excite."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, squeeze_excite: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.squeeze_excite = squeeze_excite or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, channels, h, w), or half of h and w where body and shortcut have stride 2"""
        return self.squeeze_excite(self.body(x) + self.shortcut(x))


def residual_stem(channels: int, squeeze_excite: nn.Module | None = None) -> Residual:
    """The first block, without normalization before its first convolution."""
    body = nn.Sequential(conv3(3, channels), *activated_conv(channels, channels))
    return Residual(body, projection(3, channels), squeeze_excite)


def residual_unit(
    in_channels: int, channels: int, stride: int = 1, squeeze_excite: nn.Module | None = None
) -> Residual:
    """Two pre-activated convolutions, the first with the stride."""
    body = nn.Sequential(activated_conv(in_channels, channels, stride), activated_conv(channels, channels))
    return Residual(body, projection(in_channels, channels, stride), squeeze_excite)


def dilated_conv3(in_channels: int, channels: int, dilation: int) -> nn.Module:
    """conv3 with bias that keeps H and W."""
    return nn.Conv2d(in_channels, channels, 3, padding=dilation, dilation=dilation)


class SummedPyramid(nn.Module):
    """ASPP of ResUNet++: convolutions with several dilations, BatchNorm without ReLU, added, then 1x1."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        dilations: tuple[int, ...] = (6, 12, 18, 1),
        conv: Callable[[int, int, int], nn.Module] = dilated_conv3,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(conv(in_channels, channels, dilation), nn.BatchNorm2d(channels))
            for dilation in dilations
        )
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, h, w)"""
        first, *others = self.branches
        total = first(x)
        for branch in others:
            total = total + branch(x)
        return self.mix(total)


def like_keras(network: nn.Module) -> None:
    """Give a network the BatchNorm constants and initial weights it would have in Keras, in place."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, 0.01
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
