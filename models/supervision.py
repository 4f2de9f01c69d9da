"""What the outputs of a network are trained on, where that is not the mask alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class Supervision:
    """What one output is trained on, and how much its loss counts.

    The outline is a line of one pixel along the inner side of the mask's border.
    """

    of: Literal["mask", "outline"] = "mask"
    weight: float = 1.0


def supervision(network: nn.Module) -> tuple[Supervision, ...]:
    """One for each output of a network that says so by an attribute of this name; else empty: all on the mask."""
    return getattr(network, "supervision", ())
