"""SAM2-UNet: the frozen image encoder of Segment Anything 2 with adapters, and a U-Net's decoder (arXiv:2408.08870).

After the paper of Xiong et al., whose text was not at hand: details may differ.
Before every block of the Hiera encoder, whose weights rest, an adapter is trained: down
to 32 channels and back, added to the tokens. Receptive field blocks as in PraNet reduce the four maps to 64 channels;
three blocks of a U-Net join them from deep to shallow, with a head each. The maps at 1/16, 1/8 and 1/4 are trained with
equal weight; the last is the prediction. 216,419,043 parameters, of which 4,269,747 are trained. The paper prints those
of its encoder alone, 214 M for Hiera-L; here it has 213,863,712 with its adapters.
Sides are multiples of 32: the encoder tiles a window of position embeddings over 8 x 8 patches of 4 x 4 pixels. Its
global ones are interpolated, and windows of attention that do not fit are padded; SAM2 trained it with 1024 pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.models.blocks import (
    ImageNetNormalize,
    ReceptiveField,
    check_multiple,
    check_size,
    double_conv,
    resize,
)
from orchestrator.models.frozen import Adapted, Frozen
from orchestrator.models.pyramids import AnyPyramid
from orchestrator.models.registry import register

STRIDE = 32
SIZES = ("tiny", "small", "base_plus", "large")


class SAM2UNet(nn.Module):
    """Frozen encoder with adapters, receptive fields, decoder, three heads."""

    def __init__(self, encoder: Frozen, channels: list[int], width: int) -> None:
        super().__init__()
        self.normalize = ImageNetNormalize()
        self.encoder = encoder
        self.fields = nn.ModuleList(ReceptiveField(c, width) for c in channels)
        self.join = nn.ModuleList(double_conv(2 * width, width) for _ in range(3))
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in range(3))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 32 -> three logits (B, 1, H, W), the finest first"""
        check_size(image, STRIDE)
        maps = self.encoder(self.normalize(image))[-4:]
        x, *skips = [field(x) for field, x in zip(self.fields, maps, strict=True)][::-1]
        logits = []
        for skip, join, head in zip(skips, self.join, self.heads, strict=True):
            x = join(torch.cat([skip, resize(x, like=skip)], dim=1))
            logits.append(resize(head(x), like=image))
        return tuple(logits[::-1])


@register(stride=STRIDE, paper="Xiong et al., Visual Intelligence 2026, arXiv:2408.08870")
def sam2_unet(
    *,
    encoder: str = "large",
    width: int = 64,
    adapter_width: int = 32,
    pretrained: bool = True,
    weights: str | None = None,
) -> SAM2UNet:
    """SAM2-UNet: the frozen encoder of Segment Anything 2 with adapters, and a U-Net's decoder.

    encoder: tiny, small, base_plus or large, the paper's; or a HieraDet by timm's name.
    width: channels of the decoder.
    adapter_width: channels of the adapters within.
    pretrained: download SAM2's weights of the encoder, without which a frozen one makes little sense.
    weights: read them from this local file instead, in timm's or in SAM2's names.
    """
    check_multiple("width", width)
    check_multiple("adapter_width", adapter_width)
    name = f"sam2_hiera_{encoder}" if encoder in SIZES else encoder
    refusal = ValueError(
        f"encoder must be {' or '.join(SIZES)}, or a HieraDet by timm's name, got {encoder!r}"
    )
    if "hiera" not in name:
        raise refusal
    body = AnyPyramid(name, pretrained=pretrained, weights=weights)
    hiera: Any = getattr(body.body, "model", None)
    if type(hiera).__name__ != "HieraDet":
        raise refusal
    frozen = Frozen(body)
    for place, block in enumerate(hiera.blocks):
        hiera.blocks[place] = Adapted(block, block.dim, adapter_width)
    return SAM2UNet(frozen, body.channels[1:], width)
