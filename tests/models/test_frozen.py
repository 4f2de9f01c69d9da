"""Networks with parts that are not trained: what training, averaging and saving leave alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from orchestrator import models
from orchestrator.models.cost import size
from orchestrator.models.frozen import Frozen, LowRank
from orchestrator.training.optimization.optimizers import optimizer_of
from orchestrator.training.optimization.weight_averaging import WeightAverage
from orchestrator.training.recipe import Recipe

DINO: dict[str, Any] = {"encoder": "test_vit", "width": 16, "pretrained": False}
HALF_FROZEN = {
    "frozen": ("dino_decoder", DINO),
    "lora": ("dino_decoder", {**DINO, "adaptation": "lora", "lora_rank": 2}),
    "adapters": ("sam2_unet", {"encoder": "test_hieradet", "width": 8, "pretrained": False}),
}


@pytest.fixture(params=HALF_FROZEN)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    name, params = HALF_FROZEN[request.param]
    return models.build(name, **params).train()


def resting(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in network.named_parameters() if not p.requires_grad}


def step(network: nn.Module, recipe: Recipe) -> None:
    optimizer = optimizer_of(network, recipe)
    network(torch.rand(2, 3, 64, 64))[0].square().mean().backward()
    optimizer.step()


def test_a_step_with_weight_decay_and_averaging_leave_frozen_weights_bit_for_bit(network):
    before = resting(network)
    recipe = Recipe(weight_decay=0.5, weight_averaging="ema", averaging_start=0.0, ema_decay=0.7)
    average = WeightAverage(network, recipe)
    for _ in range(2):
        step(network, recipe)
        average.after_step(0)
    average.after_epoch(0, [torch.rand(2, 3, 64, 64)])
    for kept in (network, average.best_known):
        assert all(torch.equal(before[name], value) for name, value in resting(kept).items())


def test_the_optimizer_gets_what_is_trained_alone(network):
    given = {id(p) for group in optimizer_of(network, Recipe()).param_groups for p in group["params"]}
    assert given == {id(p) for p in network.parameters() if p.requires_grad}


def test_frozen_parts_stay_in_evaluation_mode_and_the_rest_trains(network):
    frozen = [module for module in network.modules() if isinstance(module, Frozen)]
    assert frozen
    inside = {id(module) for part in frozen for module in part.body.modules()}
    assert all(module.training is (id(module) not in inside) for module in network.modules())


def test_statistics_and_dropout_of_a_frozen_part_rest():
    part = Frozen(nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.9)))
    network = nn.Sequential(part, nn.Conv2d(3, 1, 1)).train()
    statistics = copy.deepcopy(part.state_dict())
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(network(image), network(image))
    assert all(torch.equal(value, statistics[name]) for name, value in part.state_dict().items())


def test_averaging_keeps_the_statistics_of_a_frozen_part():
    part = Frozen(nn.BatchNorm2d(3))
    part.body.running_mean += 5
    network = nn.Sequential(part, nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    average = WeightAverage(network, Recipe(weight_averaging="swa", averaging_start=0.0))
    average.after_epoch(0, [torch.rand(4, 3, 8, 8)])
    frozen, _, trained = average.best_known
    assert frozen.body.running_mean.tolist() == [5, 5, 5]
    assert trained.running_mean.abs().sum() > 0


def test_frozen_weights_are_counted_and_what_is_trained_of_them_too(network):
    counted = size(network)
    assert counted.learnable == sum(p.numel() for p in network.parameters())
    assert counted.trained == counted.learnable - sum(p.numel() for p in resting(network).values())


def test_low_rank_begins_without_a_change_and_then_has_its_rank():
    matrix = torch.rand(6, 5)
    change = LowRank(matrix, 2)
    assert torch.equal(change(matrix), matrix)
    nn.init.normal_(change.up)
    assert torch.linalg.matrix_rank(change(matrix) - matrix, atol=1e-4) == 2
