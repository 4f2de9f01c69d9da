"""Sizes that are published, or were counted in published code, met exactly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models


def num_learnable(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def num_statistics(network: nn.Module) -> int:
    """Running means and variances: Keras counts them among the parameters of a network."""
    running = ("running_mean", "running_var")
    return sum(buffer.numel() for name, buffer in network.named_buffers() if name.endswith(running))


@pytest.mark.parametrize(("base_channels", "learnable"), [(64, 31_037_633), (32, 7_763_041)])
def test_unet_has_the_published_size(base_channels, learnable):
    with torch.device("meta"):
        assert num_learnable(models.build("unet", base_channels=base_channels)) == learnable


@pytest.mark.parametrize(
    ("base_channels", "learnable", "in_keras"), [(16, 4_062_993, 4_070_385), (32, 16_228_001, 16_242_785)]
)
def test_resunet_pp_has_the_published_size(base_channels, learnable, in_keras):
    with torch.device("meta"):
        network = models.build("resunet_pp", base_channels=base_channels)
    assert num_learnable(network) == learnable
    assert learnable + num_statistics(network) == in_keras


def test_gmsrf_net_as_the_authors_wired_it_has_the_size_that_their_forward_pass_reaches():
    with torch.device("meta"):
        assert num_learnable(models.build("gmsrf_net", variant="code")) == 47_043_853


def test_gmsrf_net_of_the_paper_is_resnet50_and_two_modules_of_the_same_size():
    with torch.device("meta"):
        network = models.build("gmsrf_net")
    assert num_learnable(network.encoder) == 23_508_032
    assert [num_learnable(module) for module in network.exchanges] == [5_431_680] * 2
    assert num_learnable(network) == 46_909_444


def test_a_larger_growth_rate_is_a_larger_network():
    with torch.device("meta"):
        sizes = [
            num_learnable(models.build("gmsrf_net", growth_rate=k, encoder="test_resnet"))
            for k in (8, 16, 32)
        ]
    assert sizes == sorted(set(sizes))
