from __future__ import annotations

import pytest
import torch

from orchestrator import models
from orchestrator.models.polyp_pvt import CascadedFusion, SimilarityAggregation


def test_both_maps_are_trained_on_the_mask_with_equal_weight():
    network = models.build("polyp_pvt", width=8, encoder="test_resnet", pretrained=False)
    assert len(network(torch.rand(2, 3, 64, 64))) == 2
    assert models.supervision(network) == ()


def test_cascaded_fusion_listens_to_all_three_levels():
    fuse = CascadedFusion(4).eval()
    levels = [torch.rand(1, 4, size, size, requires_grad=True) for size in (8, 4, 2)]
    fused = fuse(*levels)
    assert fused.shape == (1, 4, 8, 8)
    assert all(gradient.any() for gradient in torch.autograd.grad(fused.sum(), levels))


def test_aggregation_adds_to_the_deep_map_what_its_graph_returns():
    aggregate = SimilarityAggregation(8, 6)
    deep, shallow = torch.rand(2, 8, 4, 6), torch.rand(2, 6, 8, 12)
    assert not torch.equal(aggregate(deep, shallow), deep)
    for parameter in aggregate.back.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(aggregate(deep, shallow), deep)


def test_one_place_of_the_deep_map_reaches_every_other_through_the_nodes():
    aggregate = SimilarityAggregation(8, 6)
    deep = torch.rand(1, 8, 8, 8, requires_grad=True)
    corner = aggregate(deep, torch.rand(1, 6, 16, 16))[..., 0, 0].sum()
    (gradient,) = torch.autograd.grad(corner, deep)
    assert (gradient.abs().sum(dim=1) > 0).all()


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="width must be a positive multiple of 2, got 9"):
        models.build("polyp_pvt", width=9, pretrained=False)
