"""Size and cost of a network, counted without weights or arithmetic: on torch's meta device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.models import registry


@dataclass(frozen=True)
class Size:
    """Counts of a network's numbers."""

    learnable: int  # of all parameters, frozen ones included
    statistics: int  # running means and variances of BatchNorm, which Keras counts as parameters
    trained: int  # of the parameters that ask for a gradient


def size(network: nn.Module) -> Size:
    """The numbers of a network's parameters and statistics."""
    running = ("running_mean", "running_var")
    return Size(
        sum(parameter.numel() for parameter in network.parameters()),
        sum(buffer.numel() for name, buffer in network.named_buffers() if name.endswith(running)),
        sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
    )


def on_meta(name: str, **values: Any) -> nn.Module:
    """A network with shapes but without numbers; nothing is downloaded."""
    if "pretrained" in registry.params(name):
        values["pretrained"] = False
    with torch.device("meta"):
        network = registry.build(name, **values)
    return network.to("meta")  # constants that a library computes on the CPU


def multiply_accumulates(network: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of convolutions and matrix products in a forward pass of one RGB image; network on meta."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.empty(1, 3, height, width, device="meta"))
    return counter.get_total_flops() // 2
