"""nnU-Net's residual encoder U-Net in 2-D, sizes M and L (Isensee et al., arXiv:2404.09556), from the authors' package.

From scratch, by design: the fair baseline for networks that start from ImageNet. nnU-Net plans stages for a patch: it
is halved down to 4 pixels, so there are seven stages for 256 to 511 pixels, M here, and eight for 512 and more, L here.
Its own plans M (8 GB) and L (24 GB) differ in the patch that fits with a batch of 12, in 2-D up to 512 and 864 pixels
square, and in nothing else. Widths 32, 64, 128, 256, then 512; 1, 3, 4, then 6 residual blocks a stage; one convolution
a stage in the decoder; InstanceNorm and LeakyReLU; kernels by He, the last norm of each block at 0.

As in nnU-Net, each channel of an image is normalized by its own mean and deviation, each level of the decoder has an
output, and their weights in the loss are 1, 1/2, 1/4 ... , 1e-6 for the coarsest, divided by their sum. Differs:
- outputs are upsampled to the mask's size, where nnU-Net takes the mask to theirs;
- images are resized as a whole, not cut into patches; their sides need not be multiples of 64 or 128: zeros, which are
  the mean here, are appended, and cut off again.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from orchestrator.models.blocks import check_multiple, check_size, resize
from orchestrator.models.registry import register
from orchestrator.models.supervision import Supervision

STRIDE = 32
Size = Literal["M", "L"]
STAGES: dict[str, int] = {"M": 7, "L": 8}
WIDEST = 16  # times the width of the first stage
BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6)
COARSEST = 1e-6  # weight of the coarsest output, which nnU-Net keeps so that its parameters have gradients


class NnUNetResEnc(nn.Module):
    """Normalization, the package's encoder and decoder, and outputs of one size."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, stages: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.multiple = 2 ** (stages - 1)
        weights = [*(0.5**level for level in range(stages - 2)), COARSEST]
        self.supervision = tuple(Supervision(weight=weight / sum(weights)) for weight in weights)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image (B, 3, H, W) in [0, 1], H and W multiples of 32 -> logits (B, 1, H, W), of the finest level first"""
        check_size(image, STRIDE)
        height, width = image.shape[-2:]
        std, mean = spread_and_mean(image)
        # InstanceNorm needs two pixels a side at the deepest level.
        tall, wide = (max(2, -(-side // self.multiple)) * self.multiple for side in (height, width))
        padded = F.pad((image - mean) / std, (0, wide - width, 0, tall - height))
        outputs = self.decoder(self.encoder(padded))
        return tuple(resize(logits, like=padded)[..., :height, :width] for logits in outputs)


def spread_and_mean(image: Tensor) -> tuple[Tensor, Tensor]:
    """Deviation, at least 1e-8, and mean of every channel of every image: (B, 3, 1, 1) each."""
    std, mean = image.std(dim=(2, 3), keepdim=True, correction=0), image.mean(dim=(2, 3), keepdim=True)
    return std.clamp(min=1e-8), mean


@register(stride=STRIDE, paper="Isensee et al., MICCAI 2024, arXiv:2404.09556")
def nnunet_resenc(*, size: Size = "M", width: int = 32) -> NnUNetResEnc:
    """nnU-Net's residual encoder U-Net in 2-D, from scratch.

    size: M has seven stages, for images of 256 to 511 pixels; L has eight, for 512 and more.
    width: channels at full size; doubled at each halving, up to 16 times as many.
    """
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    check_multiple("width", width)
    if size not in get_args(Size):
        raise ValueError(f"size must be 'M' or 'L', got {size!r}")
    stages = STAGES[size]
    network: Any = ResidualEncoderUNet(
        3,
        n_stages=stages,
        features_per_stage=[width * min(2**stage, WIDEST) for stage in range(stages)],
        conv_op=nn.Conv2d,
        kernel_sizes=3,
        strides=[1, *[2] * (stages - 1)],
        n_blocks_per_stage=BLOCKS[:stages],
        num_classes=1,
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )
    network.apply(network.initialize)
    _name_once(network)
    return NnUNetResEnc(network.encoder, network.decoder, stages)


def _name_once(network: Any) -> None:
    """Drop second names of the same layers, under which a file of weights would hold these twice."""
    del network.decoder.encoder
    for module in network.modules():
        if hasattr(module, "all_modules"):
            for name in {name for name, _ in module.named_children()} - {"all_modules"}:
                delattr(module, name)
