"""A vision transformer that was pretrained without labels, frozen or adapted, with a light decoder.

No paper's network: the plain way to ask how far DINOv2 (arXiv:2304.07193) or DINOv3 (arXiv:2508.10104) go on polyps.
Four blocks' tokens, from a quarter of the depth to the last, each through the transformer's last normalization, are
reduced by a 1x1, joined, and doubled twice; at 1/4 they meet two strided convolutions of the image, for edges that
tokens lack; a 1x1 predicts. What is trained besides the decoder, by adaptation:
- frozen: nothing; the transformer stays in evaluation mode, and asks for no gradient;
- lora: a change of low rank of every linear layer of attention (arXiv:2106.09685), not scaled;
- full: all.
There is one token for 16 x 16 pixels, whatever the patch: for patches of 14 the image is resized to 14/16 of its sides,
352 pixels to 308, so that all encoders take the same images. Position embeddings are interpolated (DINOv2), or
computed for the grid (DINOv3).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orchestrator.models.blocks import ImageNetNormalize, check_multiple, check_size, conv_bn, resize
from orchestrator.models.encoders import check_name, timm_encoder
from orchestrator.models.frozen import Frozen, add_low_rank
from orchestrator.models.registry import register

STRIDE = 16
FAMILIES = ("timm.models.vision_transformer", "timm.models.eva")  # DINOv2 and its like, DINOv3
EXAMPLES = "vit_small_patch14_dinov2 and vit_small_patch16_dinov3"
Adaptation = Literal["frozen", "lora", "full"]


class Tokens(nn.Module):
    """A vision transformer's tokens as maps, after four of its blocks."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.patch: int = body.patch_embed.patch_size[0]
        depth = len(body.blocks)
        self.taken = sorted({max(0, depth * quarter // 4 - 1) for quarter in (1, 2, 3, 4)})
        body.prune_intermediate_layers(self.taken, prune_norm=False, prune_head=True)
        self.body = body

    def forward(self, image: Tensor) -> list[Tensor]:
        """image (B, 3, H, W) -> maps (B, C, H / 16, W / 16)"""
        if self.patch != STRIDE:
            sides = [side // STRIDE * self.patch for side in image.shape[-2:]]
            image = F.interpolate(image, size=sides, mode="bilinear")
        return self.body.forward_intermediates(image, self.taken, norm=True, intermediates_only=True)


class DinoDecoder(nn.Module):
    """Tokens, the image's edges, and a decoder for both."""

    def __init__(self, tokens: nn.Module, counts: tuple[int, int], width: int, pixels: Any) -> None:
        super().__init__()
        maps, channels = counts
        self.normalize = ImageNetNormalize(pixels["mean"], pixels["std"])
        self.tokens = tokens
        self.reduce = nn.ModuleList(conv_bn(channels, width, 1, relu=True) for _ in range(maps))
        self.join = conv_bn(maps * width, width, relu=True)
        self.refine = conv_bn(width, width, relu=True)
        self.edges = nn.Sequential(*(layer for c in (3, width // 2) for layer in strided(c, width // 2)))
        self.mix = conv_bn(width + width // 2, width, relu=True)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 16 -> logits (B, 1, H, W)"""
        check_size(image, STRIDE)
        pixels = self.normalize(image)
        maps = [reduce(x) for reduce, x in zip(self.reduce, self.tokens(pixels), strict=True)]
        x = F.interpolate(self.join(torch.cat(maps, dim=1)), scale_factor=2.0, mode="bilinear")
        edges = self.edges(pixels)
        x = resize(self.refine(x), like=edges)
        return (resize(self.head(self.mix(torch.cat([x, edges], dim=1))), like=image),)


def strided(in_channels: int, channels: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False)
    return conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)


@register(stride=STRIDE, paper="DINOv2 (arXiv:2304.07193), DINOv3 (arXiv:2508.10104)")
def dino_decoder(
    *,
    encoder: str = "vit_small_patch14_dinov2",
    adaptation: Adaptation = "frozen",
    lora_rank: int = 8,
    width: int = 128,
    pretrained: bool = True,
    weights: str | None = None,
) -> DinoDecoder:
    """A DINO vision transformer, frozen or adapted by LoRA, with a light decoder.

    encoder: a vision transformer of timm, such as vit_base_patch14_reg4_dinov2 or vit_small_patch16_dinov3.
    adaptation: what of it is trained: nothing, changes of low rank, or all.
    lora_rank: the rank of those, at most the width of the transformer.
    width: channels of the decoder, an even number.
    pretrained: download its weights, without which a frozen one makes little sense; those of DINOv3 have a licence.
    weights: read them from this local file instead, in timm's names.
    """
    import timm

    check_multiple("width", width, of=2)
    if adaptation not in get_args(Adaptation):
        raise ValueError(f"adaptation must be one of {', '.join(get_args(Adaptation))}, got {adaptation!r}")
    check_name(encoder)
    if timm.models.model_entrypoint(encoder).__module__ not in FAMILIES:
        raise ValueError(f"encoder {encoder!r} is no plain vision transformer; {EXAMPLES} are")
    body = timm_encoder(encoder, pretrained=pretrained, weights=weights, num_classes=0, dynamic_img_size=True)
    tokens = Tokens(body)
    part = tokens if adaptation == "full" else Frozen(tokens)
    check_multiple(
        "lora_rank", lora_rank, most=body.embed_dim
    )  # a change of a higher rank is no change of low rank
    if adaptation == "lora":
        add_low_rank(part, lora_rank)
    return DinoDecoder(part, (len(tokens.taken), body.embed_dim), width, body.pretrained_cfg)
