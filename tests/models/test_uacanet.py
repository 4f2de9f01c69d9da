from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from orchestrator import models
from orchestrator.models.uacanet import ContextAttention, ParallelAxialAttention, SelfAttention


def build(name: str, **params: Any) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, pretrained=False, **params)


def attention(along: str, *, as_code: bool = False) -> SelfAttention:
    torch.manual_seed(0)
    module = SelfAttention(8, along, as_code=as_code).eval()
    module.gamma.data.fill_(1.0)
    return module


def changed(module: nn.Module, height: int, width: int) -> Tensor:
    """Where the output of a module moves when the input does at row 1 and column 2: (height, width), bool."""
    x = torch.rand(1, 8, height, width, generator=torch.Generator().manual_seed(0))
    moved = x.clone()
    moved[..., 1, 2] += 1
    with torch.no_grad():
        return (module(x) - module(moved)).abs().amax(dim=(0, 1)) > 1e-7


def test_attention_along_the_height_stays_in_its_column_and_along_the_width_in_its_row():
    column, row = torch.zeros(2, 5, 7, dtype=torch.bool)
    column[:, 2] = row[1] = True
    assert torch.equal(changed(attention("height"), 5, 7), column)
    assert torch.equal(changed(attention("width"), 5, 7), row)


def test_axial_attention_is_softmax_of_unscaled_products_within_a_row():
    module, x = attention("width"), torch.rand(2, 8, 3, 5)
    with torch.no_grad():
        query, key, value = (part(x) for part in (module.query, module.key, module.value))
        weights = torch.einsum("bchi,bchj->bhij", query, key).softmax(dim=-1)
        expected = x + torch.einsum("bhij,bchj->bchi", weights, value)
        torch.testing.assert_close(module(x), expected)


def test_in_the_authors_code_both_axes_are_one_on_square_maps_and_differ_on_others():
    height, width = attention("height", as_code=True), attention("width", as_code=True)
    with torch.no_grad():
        square, oblong = torch.rand(1, 8, 6, 6), torch.rand(1, 8, 4, 6)
        assert torch.equal(height(square), width(square))
        assert not torch.allclose(height(oblong), width(oblong))


@pytest.mark.parametrize("as_code", [False, True])
def test_attention_begins_as_twice_the_map(as_code):
    x = torch.rand(2, 16, 4, 6)
    assert torch.equal(ParallelAxialAttention(16, as_code=as_code)(x), 2 * x)


def test_areas_are_polyp_background_and_what_is_between():
    logits = torch.tensor([100.0, -100.0, 0.0]).view(1, 1, 1, 3)
    areas = ContextAttention._areas(logits)[0, :, 0]
    torch.testing.assert_close(areas, torch.tensor([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]))


def test_context_does_not_depend_on_where_things_are_but_does_in_the_authors_code():
    x = torch.rand(1, 6, 4, 4)
    areas = torch.rand(1, 3, 4, 4)

    def vectors(as_code: bool, turn: bool) -> Tensor:
        module = ContextAttention(8, as_code=as_code)
        a, b = (torch.rot90(m, 1, (2, 3)) if turn else m for m in (areas, x))
        return a.flatten(2) @ module._places(b)

    torch.testing.assert_close(vectors(False, False), vectors(False, True))
    assert not torch.allclose(vectors(True, False), vectors(True, True))


@pytest.mark.parametrize(
    ("name", "sizes", "dilations"),
    [("uacanet_s", [16, 8, 4, 2], [1, 1, 2, 4]), ("uacanet_l", [16, 8, 4, 4], [1, 1, 1, 2])],
)
def test_late_stages_of_the_encoder_are_dilated(name, sizes, dilations):
    encoder = build(name).encoder
    assert [x.shape[-1] for x in encoder(torch.empty(1, 3, 64, 64, device="meta"))] == sizes
    for stage, dilation in enumerate(dilations, start=1):
        convs = [m for m in encoder.body[f"layer{stage}"].modules() if isinstance(m, nn.Conv2d)]
        assert {conv.dilation for conv in convs if conv.kernel_size == (3, 3)} == {(dilation, dilation)}


def test_the_larger_network_takes_multiples_of_sixteen():
    outputs = build("uacanet_l", width=8)(torch.empty(2, 3, 48, 80, device="meta"))
    assert {tuple(output.shape) for output in outputs} == {(2, 1, 48, 80)}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"width": 12}, "width must be a positive multiple of 8, got 12"),
        ({"variant": "text"}, "variant must be 'paper' or 'code', got 'text'"),
        ({"encoder": "mobilenetv3_small_050"}, "is not a ResNet"),
    ],
)
def test_a_value_that_cannot_be_built_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        build("uacanet_s", **params)
