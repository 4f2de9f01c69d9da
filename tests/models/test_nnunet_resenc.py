"""nnU-Net's residual encoder U-Net, beside the authors' package."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import nn

from orchestrator import models
from orchestrator.models.cost import on_meta, size


def theirs(stages: int, width: int) -> nn.Module:
    return ResidualEncoderUNet(
        3,
        n_stages=stages,
        features_per_stage=[min(width * 16, width * 2**stage) for stage in range(stages)],
        conv_op=nn.Conv2d,
        kernel_sizes=3,
        strides=[1] + [2] * (stages - 1),
        n_blocks_per_stage=(1, 3, 4, 6, 6, 6, 6, 6)[:stages],
        num_classes=1,
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )


@pytest.mark.parametrize(("name", "stages", "learnable"), [("M", 7, 105_915_878), ("L", 8, 140_015_591)])
def test_sizes_are_those_of_the_package(name, stages, learnable):
    with torch.device("meta"):
        assert size(theirs(stages, 32)).learnable == learnable
    assert size(on_meta("nnunet_resenc", size=name)).learnable == learnable


def test_outputs_are_the_packages_on_an_image_of_zero_mean_and_unit_deviation():
    ours, other = models.build("nnunet_resenc", width=4).eval(), theirs(7, 4).eval()
    state = ours.state_dict()
    other.load_state_dict(
        {key: state[_once(key)] for key in other.state_dict() if _once(key) in state}, strict=True
    )
    image = torch.rand(2, 3, 128, 128)
    std, mean = torch.std_mean(image, dim=(2, 3), keepdim=True, correction=0)
    with torch.no_grad():
        torch.testing.assert_close(ours(image)[0], other((image - mean) / std)[0])


def _once(key: str) -> str:
    """The name that is left of those that the package gives to one tensor."""
    key = key.replace("decoder.encoder.", "encoder.")
    return key.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")


def test_weights_of_outputs_halve_and_sum_to_one_with_next_to_nothing_for_the_coarsest():
    weights = [part.weight for part in models.build("nnunet_resenc", width=1).supervision]
    assert len(weights) == 6 and sum(weights) == pytest.approx(1)
    assert [a / b for a, b in pairwise(weights[:5])] == pytest.approx([2] * 4)
    assert 0 < weights[-1] < 1e-6


def test_an_image_that_is_no_multiple_of_64_keeps_its_size():
    assert {one.shape for one in models.build("nnunet_resenc", width=1)(torch.rand(1, 3, 96, 160))} == {
        (1, 1, 96, 160)
    }


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": "XL"}, "size must be 'M' or 'L', got 'XL'"),
        ({"width": 0}, "width must be a positive integer"),
    ],
)
def test_a_value_that_cannot_be_built_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        models.build("nnunet_resenc", **params)
