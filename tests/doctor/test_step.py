"""A training step of every network of a space."""

from __future__ import annotations

import pytest

from orchestrator.doctor.checks import step
from orchestrator.doctor.checks.isolated_process import Failed

CHOICE = """
network = { choice = ["unet", "unet_mediaeval"] }
search.learning_rate = { log_uniform = [1e-4, 1e-2] }
fixed = { base_channels = 4, image_size = 32, batch_size = 2 }
baseline = { learning_rate = 1e-3, network = "unet_mediaeval" }
"""


def test_each_network_of_a_choice_is_timed_the_baselines_first():
    first, second = (step.main(CHOICE, "cpu", place) for place in (0, 1))
    assert (first["network"], first["others"], second["network"]) == ("unet_mediaeval", ["unet"], "unet")
    assert first["seconds"]["cpu"] > 0 and second["seconds"]["cpu"] > 0


def test_a_network_that_fails_or_takes_too_long_is_named(monkeypatch: pytest.MonkeyPatch):
    def run_isolated(module, request, limit_s):
        if request["place"] == 1:
            raise Failed("CUDA error")
        if request["place"] == 2:
            raise TimeoutError
        return {
            "network": "unet",
            "others": ["pranet", "emcad"],
            "images": 2,
            "image_size": 32,
            "seconds": {"cpu": 1},
        }

    monkeypatch.setattr(step, "run_isolated", run_isolated)
    found = list(step.judge("here", {"here": step.timed("", "cpu")}))
    assert [severity for severity, *_ in found] == ["ok", "failure", "warning"]
    assert "unet" in found[0][1] and "pranet: CUDA error" in found[1][1] and "no step of emcad" in found[2][1]


def test_a_device_is_slow_by_the_same_network_on_the_other_nodes():
    def answer(seconds: float) -> list[dict[str, object]]:
        common = {"images": 2, "image_size": 32}
        return [
            {"network": "unet", "seconds": {"cuda:0": 0.1}, **common},
            {"network": "pranet", "seconds": {"cuda:0": seconds}, **common},
        ]

    found = list(step.judge("b", {"a": answer(1.0), "b": answer(4.0), "c": answer(1.0)}))
    assert [severity for severity, *_ in found] == ["ok", "warning"] and "4.0 times the median" in found[1][1]
