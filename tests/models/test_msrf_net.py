from __future__ import annotations

import pytest
import torch

from orchestrator import models
from orchestrator.models.msrf_net import DualScaleDenseFusion, MSRFNet

SMALL = {"base_channels": 8, "growth_rate": 4}


def small(**params: str) -> MSRFNet:
    torch.manual_seed(0)
    network = models.build("msrf_net", **SMALL, **params)
    assert isinstance(network, MSRFNet)
    return network.eval()


def test_it_says_that_the_prediction_counts_twice_and_the_last_output_is_an_outline():
    told = models.supervision(small())
    assert [part.of for part in told] == ["mask", "mask", "mask", "outline"]
    assert [part.weight for part in told] == [2, 1, 1, 1]


def test_a_network_that_says_nothing_is_trained_on_the_mask_alone():
    assert models.supervision(models.build("unet", base_channels=8)) == ()


@pytest.mark.parametrize("as_code", [False, True])
def test_in_a_block_either_scale_hears_from_the_other(as_code):
    block = DualScaleDenseFusion(8, 16, 4, as_code=as_code)
    fine, coarse = torch.rand(1, 8, 16, 16, requires_grad=True), torch.rand(1, 16, 8, 8, requires_grad=True)
    new_fine, new_coarse = block(fine, coarse)
    assert (new_fine.shape, new_coarse.shape) == (fine.shape, coarse.shape)
    assert torch.autograd.grad(new_fine.sum(), coarse, retain_graph=True)[0].any()
    assert torch.autograd.grad(new_coarse.sum(), fine)[0].any()


@pytest.mark.parametrize(("variant", "enters"), [("paper", True), ("code", True), ("script", False)])
def test_the_outline_enters_the_prediction_but_for_the_script(variant, enters):
    network = small(variant=variant)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = network(image)[0]
        network.shape.head[1].bias += 5
        after = network(image)[0]
    assert torch.equal(before, after) is not enters


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant must be 'paper', 'code' or 'script', got 'text'"):
        models.build("msrf_net", variant="text")
