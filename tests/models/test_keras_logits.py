"""Networks whose authors publish Keras code and no weights give that code's logits.

Recorded in float64 with Keras 3.15 on JAX, where the layers of that code were wired as in DebeshJha/ResUNetPlusPlus
(m_resunet.py; resunet.py with the input of its pooling mended) and farazali41/ResUNetPlusPlus (resunet_pp_modified.py;
m_resunet_modified.py, with and without its three ReLUs): before their sigmoid, with the numbers that `wave` gives to
every tensor by its place. So were DebeshJha/ResUNetPlusPlus (unet.py), MrGiovanni/UNetPlusPlus (helper_functions.py)
and NoviceMAn-prog/MSRF-Net (model.py, and msrf.py with its outputs mended; side outputs enlarged before their sigmoid,
and edges of the image found by OpenCV).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from waves import wave, wave_image

from orchestrator import models


def with_waves(network: nn.Module, gain: float) -> nn.Module:
    """The network in evaluation and float64, each tensor known by its place and the last part of its name."""
    state = network.state_dict()
    for place, (key, value) in enumerate(state.items()):
        state[key] = wave(f"{place}.{key.rpartition('.')[2]}", tuple(value.shape), gain)
    network.load_state_dict(state)
    return network.double().eval()


@pytest.mark.parametrize(
    ("name", "params", "gain", "mean", "one"),
    [
        ("resunet", {"variant": "code"}, 2.0, 0.477983676, 0.481601059),
        ("resunet_pp", {}, 2.0, 0.0313313109, 0.10384477),
        ("resunet_pp", {"pyramid": "five"}, 2.0, -3.08703402, -3.10663015),
        ("resunet_pp_sepconv", {}, 4.0, -4.42181438, -4.50221893),
        ("resunet_pp_daspp", {}, 8.0, 0.01934005, 0.00879759644),
        ("resunet_pp_daspp_relu", {}, 8.0, 0.0328053152, 0.0173633825),
    ],
)
def test_logits_are_those_of_the_published_keras_code(
    name: str, params: dict[str, Any], gain: float, mean: float, one: float
):
    network = with_waves(models.build(name, **params), gain)
    with torch.no_grad():
        (logits,) = network(wave_image())
    assert logits.mean().item() == pytest.approx(mean, rel=1e-4)
    assert logits[0, 0, 21, 32].item() == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "params", "gain", "expected"),
    [
        ("unet_mediaeval", {}, 2.0, [(0.201163266, 0.209113285)]),
        (
            "unet_pp",
            {},
            8.0,
            [
                (0.362674731, 0.333761966),
                (-0.150721238, -0.144486891),
                (-0.308142579, -0.314184427),
                (-0.243860523, -0.251320426),
            ],
        ),
        (
            "msrf_net",
            {"variant": "code"},
            4.0,
            [
                (-0.346087368, -0.479380533),
                (-5.75146577, -5.61324932),
                (0.11656149, 0.119732126),
                (0.515217686, 0.518954525),
            ],
        ),
        (
            "msrf_net",
            {"variant": "script"},
            4.0,
            [
                (0.442023896, 0.579440511),
                (4.51234602, 2.25224867),
                (0.132773406, 0.132972498),
                (-0.511642842, -0.513852794),
            ],
        ),
    ],
)
def test_every_output_is_that_of_the_published_keras_code(
    name: str, params: dict[str, Any], gain: float, expected: list[tuple[float, float]]
):
    network = with_waves(models.build(name, **params), gain)
    with torch.no_grad():
        outputs = network(wave_image())
    for logits, (mean, one) in zip(outputs, expected, strict=True):
        assert logits.mean().item() == pytest.approx(mean, rel=1e-4)
        assert logits[0, 0, 21, 32].item() == pytest.approx(one, rel=1e-4)
