from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from orchestrator import models
from orchestrator.models.pranet import PartialDecoder, ReverseAttention


def small(**params: Any) -> nn.Module:
    torch.manual_seed(0)
    network = models.build("pranet", **{"width": 8, "encoder": "test_resnet", "pretrained": False, **params})
    return network.eval()


def image() -> torch.Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("parts", "num_outputs"), [("BRP", 4), ("BR", 4), ("BP", 1)])
def test_an_ablation_has_as_many_outputs_as_maps(parts, num_outputs):
    with torch.no_grad():
        assert len(small(parts=parts)(image())) == num_outputs


def test_without_reverse_attention_the_first_guess_is_the_prediction():
    whole, guess = small(), small(parts="BP")
    guess.load_state_dict({key: whole.state_dict()[key] for key in guess.state_dict()})
    with torch.no_grad():
        torch.testing.assert_close(guess(image())[0], whole(image())[-1])


def test_without_the_partial_decoder_the_first_guess_looks_at_the_deepest_map_alone():
    guess = small(parts="BR").guess
    s8, s16, s32 = torch.rand(1, 48, 8, 8), torch.rand(1, 192, 4, 4), torch.rand(1, 96, 2, 2)
    assert guess(s8, s16, s32).shape == (1, 1, 2, 2)
    assert torch.equal(guess(s8, s16, s32), guess(0 * s8, 0 * s16, s32))


@pytest.mark.parametrize(("logit", "looks"), [(-100.0, True), (100.0, False)])
def test_reverse_attention_sees_background_only(logit, looks):
    reverse = ReverseAttention(6, 4, kernel=3, depth=2, last=3).eval()
    coarse = torch.full((1, 1, 4, 4), logit)
    one, other = (reverse(torch.rand(1, 6, 8, 8), coarse) for _ in range(2))
    assert one.shape == (1, 1, 8, 8)
    assert torch.equal(one, other) is not looks


def test_the_partial_decoder_listens_to_all_three_levels():
    decoder = PartialDecoder(4).eval()
    levels = [torch.rand(1, 4, size, size, requires_grad=True) for size in (8, 4, 2)]
    logits = decoder(*levels)
    assert logits.shape == (1, 1, 8, 8)
    assert all(gradient.any() for gradient in torch.autograd.grad(logits.sum(), levels))


def test_reverse_attention_grows_with_the_width_and_has_the_papers_at_32():
    with torch.device("meta"):
        reverse = models.build("pranet", pretrained=False).reverse
    assert [module.refine[0][0].out_channels for module in reverse] == [256, 64, 64]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"width": 0}, "width must be a positive integer, got 0"),
        ({"parts": "RP"}, "parts must be 'BRP', 'BR' or 'BP', got 'RP'"),
        ({"encoder": "resnet5000"}, "no encoder named 'resnet5000'"),
    ],
)
def test_a_value_that_cannot_be_built_is_refused(params, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        small(**params)
