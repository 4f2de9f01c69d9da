from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from orchestrator import models
from orchestrator.models.blocks import conv3, doubling_conv3


def test_doubling_is_the_transpose_of_halving_with_the_same_kernel():
    halve, double = conv3(3, 5, stride=2), doubling_conv3(5, 3)
    nn.init.zeros_(halve[1].bias)
    nn.init.zeros_(double[0].bias)
    with torch.no_grad():
        double[0].weight.copy_(halve[1].weight)
    large, small = torch.rand(1, 3, 12, 8), torch.rand(1, 5, 6, 4)
    torch.testing.assert_close((halve(large) * small).sum(), (large * double(small)).sum())


@pytest.mark.parametrize(
    ("name", "params", "multiple"),
    [
        ("resunet", {}, 8),
        ("resunet", {"variant": "code"}, 16),
        ("resunet_pp", {}, 8),
        ("resunet_pp_sepconv", {}, 8),
        ("resunet_pp_daspp", {}, 16),
        ("resunet_pp_daspp_relu", {}, 16),
        ("colonsegnet", {}, 8),
    ],
)
def test_a_network_takes_every_multiple_of_its_own_stride(name: str, params: dict[str, Any], multiple: int):
    with torch.device("meta"):
        network = models.build(name, **params)
        (logits,) = network(torch.rand(2, 3, 3 * multiple, multiple))
        assert logits.shape == (2, 1, 3 * multiple, multiple)
        with pytest.raises(ValueError, match=f"multiples of {multiple}, got {multiple} x {multiple // 2}"):
            network(torch.rand(2, 3, multiple, multiple // 2))


def test_each_variant_has_its_own_width():
    with torch.device("meta"):
        paper, code = models.build("resunet"), models.build("resunet", variant="code")
    assert (paper.head.in_channels, code.head[0].in_channels) == (64, 16)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("resunet", {"variant": "text"}, "variant must be 'paper' or 'code', got 'text'"),
        ("resunet_mod", {"base_channels": 0}, "base_channels must be a positive integer, got 0"),
        ("resunet_pp", {"pyramid": "six"}, "pyramid must be 'four' or 'five', got 'six'"),
        ("resunet_pp_daspp", {"base_channels": 12}, "base_channels must be a positive multiple of 8, got 12"),
        ("colonsegnet", {"base_channels": 7}, "base_channels must be a positive multiple of 2, got 7"),
    ],
)
def test_a_value_that_cannot_be_built_is_refused(name: str, params: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        models.build(name, **params)
