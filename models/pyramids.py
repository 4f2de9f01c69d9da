"""Encoders of timm with maps at 1/4, 1/8, 1/16 and 1/32 of any image whose sides are multiples of 32.

timm's encoders differ: some have a map at 1/2, some have channels last, some take images of one size, some are no
pyramids. What an encoder gives is found by a pass of shapes without numbers, once in a process, so that one that will
not do is refused when it is named, not in the middle of a fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.models.encoders import check_name, timm_encoder
from orchestrator.models.packaged_weights import packaged

LEVELS = (2, 4, 8, 16, 32)
NEEDED = "an encoder needs maps at 1/4, 1/8, 1/16 and 1/32 of any image whose sides are multiples of 32"
EXAMPLES = "resnet34, tf_efficientnet_lite0, convnext_tiny, swin_tiny_patch4_window7_224, pvt_v2_b2 and sam2_hiera_tiny"
TRIED = ((96, 160), (32, 32))  # pixels


class AnyPyramid(nn.Module):
    """An encoder's maps, each (B, channels[i], H / s, W / s), for s in LEVELS; no channels at 1/2 where it has none.

    dense: for a decoder that reads the maps at 1/4 and the last alone; the last two are both at 1/16, where timm can
    dilate the encoder, otherwise the last stays at 1/32.
    pretrained: ImageNet weights of a package that carries them, otherwise downloaded. weights: a local file, instead.
    ValueError: an encoder that is not a pyramid for all sizes.
    """

    def __init__(self, name: str, *, pretrained: bool, weights: str | None, dense: bool = False) -> None:
        super().__init__()
        self.form = form_of(name, dense)
        if pretrained and weights is None and (files := packaged(name)) is not None:
            weights = str(files.path(name))
        self.body = timm_encoder(
            name, pretrained=pretrained, weights=weights, features_only=True, **dict(self.form.options)
        )
        self.channels = list(self.form.channels)
        idle = set(self.form.idle)
        for key, parameter in self.body.named_parameters():
            if key in idle:  # training over several workers waits for gradients of all that are trained
                parameter.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """image (B, 3, H, W), normalized -> five maps"""
        maps = self.form.picked(self.body(image))
        return maps if len(maps) == len(LEVELS) else [image[:, :0, ::2, ::2], *maps]


@dataclass(frozen=True)
class Form:
    """How a timm encoder is built and read: options, places and channels of the maps in use, axis order."""

    options: tuple[tuple[str, Any], ...]
    places: tuple[int, ...]  # of the maps that are used, finest first
    channels: tuple[int, ...]  # at LEVELS
    channels_last: bool
    idle: tuple[str, ...] = ()  # parameters that none of the maps depends on

    def picked(self, maps: list[Tensor]) -> list[Tensor]:
        """The maps that are used, (B, C, h, w)."""
        chosen = [maps[place] for place in self.places]
        return [x.permute(0, 3, 1, 2).contiguous() for x in chosen] if self.channels_last else chosen


@cache
def form_of(name: str, dense: bool = False) -> Form:
    """The form of an encoder of timm. ValueError: one without the maps that are needed, or of images of one size."""
    check_name(name)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        if dense:
            try:
                return _tried(name, {"output_stride": 16}, dense)
            except ValueError:
                pass  # timm dilates only some: the others end at 1/32
        return _tried(name, {}, dense)


def _tried(name: str, options: dict[str, Any], dense: bool) -> Form:
    body, options = _on_meta(name, options)
    reductions, channels = body.feature_info.reduction(), body.feature_info.channels()
    last = options.get("output_stride", LEVELS[-1])
    levels = [*LEVELS[:-1], last]
    if not set(LEVELS[1:-1]) | {last} <= set(reductions) or reductions[-1] != last:
        given = ", ".join(dict.fromkeys(f"1/{reduction}" for reduction in reductions))
        raise _refusal(name, f"has maps at {given}")
    places = [reductions.index(level) for level in levels[:-1] if level in reductions] + [len(reductions) - 1]
    used = tuple(channels[place] for place in places)
    missing = (0,) * (len(LEVELS) - len(used))
    form = Form(tuple(options.items()), tuple(places), missing + used, _has_channels_last(body))
    for height, width in TRIED:
        found = _maps(name, body, form, height, width)
        sides = [(height // level, width // level) for level in levels[-len(used) :]]
        wanted = [(2, count, *side) for count, side in zip(used, sides, strict=True)]
        if [tuple(x.shape) for x in found] != wanted:
            raise _refusal(name, f"has maps of other sizes, for {height} x {width} pixels")
    read = (found[-4], found[-1]) if dense else found
    torch.stack([x.float().mean() for x in read]).sum().backward()
    idle = tuple(key for key, parameter in body.named_parameters() if parameter.grad is None)
    return Form(form.options, form.places, form.channels, form.channels_last, idle)


def _on_meta(name: str, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The encoder without numbers, free of a fixed size of images where timm can free it."""
    import timm

    error: Exception | None = None
    ways: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {})
    for way in ways:
        try:
            with torch.device("meta"):
                return timm.create_model(name, features_only=True, **options, **way), options | way
        except Exception as why:  # of timm, of any kind: each encoder has its own
            error = why
    raise _refusal(name, "cannot give the maps of its stages") from error


def _maps(name: str, body: Any, form: Form, height: int, width: int) -> list[Tensor]:
    import timm

    try:
        return form.picked(body(torch.empty(2, 3, height, width, device="meta")))
    except Exception as error:  # of timm and torch, of any kind
        known = timm.get_pretrained_cfg(name)
        fixed = known.input_size[-1] if known is not None and known.fixed_input_size else None
        made = f"is made for images of {fixed} x {fixed} pixels"
        why = made if fixed else f"does not take images of {height} x {width} pixels"
        raise _refusal(name, why) from error


def _has_channels_last(body: Any) -> bool:
    return str(getattr(body, "output_fmt", "")).endswith("NHWC")


def _refusal(name: str, why: str) -> ValueError:
    return ValueError(f"encoder {name!r} {why}; {NEEDED}, as {EXAMPLES} have them")
