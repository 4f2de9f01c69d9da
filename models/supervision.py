"""Targets of a network's outputs, where that is not only the mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class Supervision:
    """Target and loss weight of one output.

    The outline is a line of one pixel along the inner side of the mask's border.
    """

    of: Literal["mask", "outline"] = "mask"
    weight: float = 1.0


def supervision(network: nn.Module) -> tuple[Supervision, ...]:
    """The supervision of each output, from the network's attribute of this name; empty without it: all on the mask."""
    return getattr(network, "supervision", ())
