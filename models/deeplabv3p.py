"""DeepLabv3+: atrous pooling at 1/16, refined by a map at 1/4 (Chen et al., arXiv:1802.02611), on
segmentation_models_pytorch, with dilations 6, 12 and 18.

GMSRF-Net's paper compares with it without naming its code, encoders or size. Here:
- Xception is the aligned one of the DeepLabv3+ paper, with 16 blocks in the middle; timm has it as xception65, and
  as xception71, which gives 43,459,289 parameters;
- MobileNet is its second version, with the last 1x1 to 1280 channels, which ports of DeepLabv3+ leave out.
Convolutions of pyramid and decoder are depth-wise separable, as the DeepLabv3+ paper recommends; common ports have
plain ones there, and thus 54.7 M parameters with Xception, 5.2 M and 5.8 M with MobileNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from orchestrator.models.blocks import ImageNetNormalize, check_multiple, check_size
from orchestrator.models.encoders import downloading, load_encoder, mark_encoder, timm_encoder
from orchestrator.models.registry import register

STRIDE = 16
PAPER = "Chen et al., arXiv:1802.02611"
DILATIONS = (6, 12, 18)  # in the paper for an encoder that ends at 1/16


class DeepLabV3P(nn.Module):
    """Normalization of pixels for the encoder, then the library's network."""

    def __init__(self, network: nn.Module, *pixels: Sequence[float]) -> None:
        super().__init__()
        self.normalize = ImageNetNormalize(*pixels)
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 16 -> logits (B, 1, H, W)

        In training B > 1: with one image BatchNorm in the image-pooling branch has a single number.
        """
        check_size(image, STRIDE)
        return (self.network(self.normalize(image)),)


@register(stride=STRIDE, paper=PAPER, smallest_batch=2)
def deeplabv3p_xception(
    *,
    encoder: str = "xception65.tf_in1k",
    width: int = 256,
    pretrained: bool = True,
    weights: str | None = None,
) -> DeepLabV3P:
    """DeepLabv3+ on the aligned Xception.

    encoder: one of timm's that can end at 1/16.
    width: channels of the atrous pyramid and of the decoder.
    pretrained: download the encoder's ImageNet weights, from which the authors start.
    weights: read them from this local file instead.
    """
    check_multiple("width", width)
    options = {"features_only": True, "output_stride": STRIDE}
    body = timm_encoder(encoder, pretrained=pretrained, weights=weights, **options)
    network = _network(f"tu-{encoder}", width)
    network.encoder.model = body
    return DeepLabV3P(network, body.pretrained_cfg["mean"], body.pretrained_cfg["std"])


@register(stride=STRIDE, paper=PAPER, smallest_batch=2)
def deeplabv3p_mobilenet(
    *, width: int = 256, pretrained: bool = True, weights: str | None = None
) -> DeepLabV3P:
    """DeepLabv3+ on MobileNetV2.

    width: channels of the atrous pyramid and of the decoder.
    pretrained: download the encoder's ImageNet weights, from which the authors start.
    weights: read them from this local file instead, in torchvision's names.
    """
    check_multiple("width", width)
    name = "mobilenet_v2"
    with downloading(name):
        network = _network(name, width, "imagenet" if pretrained and weights is None else None)
    if weights is not None:
        load_encoder(network.encoder, Path(weights))
    mark_encoder(network.encoder)
    return DeepLabV3P(network)


def _network(encoder: str, width: int, encoder_weights: str | None = None) -> Any:
    import segmentation_models_pytorch as smp

    return smp.DeepLabV3Plus(
        encoder,
        encoder_weights=encoder_weights,
        encoder_output_stride=STRIDE,
        decoder_channels=width,
        decoder_atrous_rates=DILATIONS,
    )
