"""Any pyramid of timm as encoder, any of six decoders of segmentation_models_pytorch: both can be searched.

A baseline that is hard to beat, and cheap to try: the encoder starts from ImageNet, or at random with
pretrained = false. Encoders that are not pyramids, or take images of one size, are refused with why. Decoders are the
library's, built for the encoder's channels. What is ours:
- pixels are in [0, 1], and normalized with the mean and deviation that the encoder was trained with;
- one width sets the channels of all decoders; 256 gives those that the library has by default;
- DeepLabv3+ sees a last map at 1/16: dilated where timm can dilate the encoder, otherwise upsampled from 1/32;
  its dilations are 6, 12 and 18, as the authors have for 1/16.
The ImageNet weights of tf_efficientnet_lite0, 1 and 2 come in packages, with the extra `weights`; all others are
downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import Tensor, nn

from orchestrator.models.blocks import ImageNetNormalize, check_multiple, check_size, resize
from orchestrator.models.deeplabv3p import DILATIONS
from orchestrator.models.pyramids import AnyPyramid
from orchestrator.models.registry import register

STRIDE = 32
Decoder = Literal["unet", "fpn", "upernet", "segformer", "manet", "deeplabv3plus"]


class EncoderDecoder(nn.Module):
    """Normalization, encoder, decoder, head."""

    def __init__(self, encoder: AnyPyramid, decoder: nn.Module, head: nn.Module, pixels: Any) -> None:
        super().__init__()
        self.normalize = ImageNetNormalize(pixels.mean, pixels.std) if pixels else ImageNetNormalize()
        self.encoder = encoder
        self.decoder = decoder
        self.head = head

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 32 -> logits (B, 1, H, W)

        In training B > 1: decoders upernet and deeplabv3plus have BatchNorm after global pooling.
        """
        check_size(image, STRIDE)
        pixels = self.normalize(image)
        return (self.head(self.decoder([pixels, *self.encoder(pixels)])),)


class AtSixteenth(nn.Module):
    """DeepLabv3+'s decoder, for a last map that may be at 1/32."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Image and maps at 1/2 to 1/16, and the last -> (B, C, H / 4, W / 4)"""
        *finer, last = maps
        return self.decoder([*finer, resize(last, like=finer[-1])])


@register(stride=STRIDE, paper="timm and segmentation_models_pytorch", smallest_batch=2)
def encoder_decoder(
    *,
    encoder: str = "tf_efficientnet_lite0",
    decoder: Decoder = "unet",
    width: int = 256,
    pretrained: bool = True,
    weights: str | None = None,
) -> EncoderDecoder:
    """Any pyramid encoder of timm with a decoder of segmentation_models_pytorch.

    encoder: one of timm's with maps at 1/4 to 1/32, for images of any size.
    decoder: how its maps become a mask.
    width: channels of the decoder, a multiple of 64; where it halves from level to level, those of the coarsest.
    pretrained: start from the encoder's ImageNet weights, of a package or downloaded.
    weights: read them from this local file instead.
    """
    import timm
    from segmentation_models_pytorch.base import SegmentationHead
    from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head

    check_multiple("width", width, of=64)
    if decoder not in get_args(Decoder):
        raise ValueError(f"decoder must be one of {', '.join(get_args(Decoder))}, got {decoder!r}")
    body = AnyPyramid(encoder, pretrained=pretrained, weights=weights, dense=decoder == "deeplabv3plus")
    build, channels, at_full_size = _decoders(width)[decoder]
    top = build([3, *body.channels])
    head = SegmentationHead(
        channels, 1, kernel_size=3 if at_full_size else 1, upsampling=1 if at_full_size else 4
    )
    initialize_decoder(top)
    initialize_head(head)
    return EncoderDecoder(body, top, head, timm.get_pretrained_cfg(encoder))


def _decoders(width: int) -> dict[str, tuple[Callable[[list[int]], nn.Module], int, bool]]:
    """How each is built for channels at 1/1 to 1/32, its channels, and whether it ends at full size, or at 1/4."""
    from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
    from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
    from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder
    from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
    from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

    narrowing = tuple(width // 2**level for level in range(5))
    atrous = {"atrous_rates": DILATIONS, "output_stride": 16, "aspp_separable": True, "aspp_dropout": 0.5}
    return {
        "unet": (lambda maps: UnetDecoder(maps, narrowing), narrowing[-1], True),
        "manet": (lambda maps: MAnetDecoder(maps, narrowing), narrowing[-1], True),
        "fpn": (lambda maps: FPNDecoder(maps, 5, width, width // 2), width // 2, False),
        "upernet": (lambda maps: UPerNetDecoder(maps, 5, width), width, False),
        "segformer": (lambda maps: SegformerDecoder(maps, 5, width), width, False),
        "deeplabv3plus": (
            lambda maps: AtSixteenth(DeepLabV3PlusDecoder(maps, 5, width, **atrous)),
            width,
            False,
        ),
    }
