"""Work of a fit in multiply-accumulates, and the time that it takes on this machine."""

from __future__ import annotations

import time
from functools import lru_cache

import torch
from torch import nn

from orchestrator import models
from orchestrator.common.cpus import usable_cpus
from orchestrator.models import cost
from orchestrator.training.recipe import FitSpec

BACKWARD = 3  # a training step costs three forward passes
WEIGHT_STEP = 40  # operations of an optimizer step for each weight
EFFICIENCY = 0.35  # of the speed of a plain convolution that networks reach, data and validation included
START_S = 3.0  # of a fit, before its first step


def weight_of(spec: FitSpec) -> int:
    """Work of a fit in millions of multiply-accumulates, at least 1."""
    recipe = spec.recipe
    forward, num_weights = _cost(spec.network, tuple(sorted(_plain(spec).items())), recipe.image_size)
    mean_scale = sum(scale**2 for scale in recipe.scales) / len(recipe.scales)
    epochs = spec.stop_after or recipe.epochs
    steps = max(1, len(spec.train) // recipe.batch_size)
    work = (
        forward * (BACKWARD * mean_scale * len(spec.train) + len(spec.val))
        + WEIGHT_STEP * num_weights * steps
    )
    return max(1, round(epochs * work / 1e6))


def _plain(spec: FitSpec) -> dict[str, object]:
    return {key: value for key, value in spec.network_params.items() if key not in ("pretrained", "weights")}


@lru_cache
def _cost(network: str, params: tuple[tuple[str, object], ...], image_size: int) -> tuple[int, int]:
    built = cost.on_meta(network, **dict(params))
    stride = models.stride(network)
    side = -(-image_size // stride) * stride
    return cost.multiply_accumulates(built, side, side), cost.size(built).learnable


def seconds_of(weights: list[int], device: torch.device) -> float:
    """Estimated seconds of all fits together on this device; `weights`: their work as of `weight_of`."""
    per_second = _speed(device) * EFFICIENCY / 1e6
    return sum(weight / per_second for weight in weights) + START_S * len(weights)


@lru_cache
def _speed(device: torch.device) -> float:
    """Multiply-accumulates per second of a plain convolution, measured; of a CPU as if without other load."""
    layer = nn.Conv2d(64, 64, 3, padding=1).to(device)
    side = 128 if device.type == "cuda" else 64
    image = torch.rand(8, 64, side, side, device=device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    with torch.inference_mode():
        for turn in range(4):
            if turn == 1:
                started = clock()
            layer(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    seconds = clock() - started
    if device.type != "cuda":
        seconds /= min(torch.get_num_threads(), usable_cpus())
    return 3 * 8 * 64 * 64 * 9 * side * side / max(seconds, 1e-6)
