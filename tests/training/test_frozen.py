"""Fits of networks with frozen parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from drawn import drawn_fit, learned, train

from orchestrator import models
from orchestrator.training.recipe import FitSpec

PARAMS: dict[str, Any] = {"encoder": "test_vit", "width": 16, "pretrained": False}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Images this small are slower on many cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fit_of(cases: Any, adaptation: str, **recipe: Any) -> FitSpec:
    spec = drawn_fit(cases, weight_averaging="ema", averaging_start=0.4, weight_decay=0.1, **recipe)
    return spec.model_copy(
        update={"network": "dino_decoder", "network_params": {**PARAMS, "adaptation": adaptation}}
    )


@pytest.mark.slow
@pytest.mark.parametrize("adaptation", ["frozen", "lora"])
def test_a_fit_that_was_stopped_and_resumed_ends_like_an_undisturbed_one(cases, tmp_path, adaptation):
    spec = fit_of(cases, adaptation)
    undisturbed = train(spec, cases, tmp_path / "undisturbed")
    for epoch in (0, 2):
        assert train(spec, cases, tmp_path / "parts", lambda row, epoch=epoch: row["epoch"] < epoch) is None
    resumed = train(spec, cases, tmp_path / "parts")
    assert learned(resumed) == learned(undisturbed)
    assert all(torch.equal(resumed.weights[name], undisturbed.weights[name]) for name in resumed.weights)
    np.testing.assert_array_equal(resumed.histograms, undisturbed.histograms)


def test_what_a_fit_hands_over_has_the_frozen_weights_that_it_began_with(cases, tmp_path):
    spec = fit_of(cases, "lora")
    torch.manual_seed(spec.recipe.seed)
    began = models.build(spec.network, **spec.network_params)
    ended = train(spec, cases, tmp_path).weights
    for name, parameter in began.named_parameters():
        assert torch.equal(ended[name], parameter) is not parameter.requires_grad, name
