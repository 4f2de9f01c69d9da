"""Costs of a configuration in use: parameters and arithmetic, known before training, and inference time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import get_args

from orchestrator.common.names import require_entries
from orchestrator.search.choices import CostName
from orchestrator.search.goals.network_sizes import IN_MEMORY, NetworkSizes
from orchestrator.search.space.space import Configuration
from orchestrator.training.recipe import VIEWS


@dataclass(frozen=True)
class CostKind:
    """Definition of a cost in `COSTS`: its function, whether fits measure it, and its number format."""

    value: Callable[[Cost, Configuration, Sequence[float | None]], float | None]
    is_measured: bool = False  # by a fit; else it is known before training
    digits: str = ".3g"  # how a value is printed


@dataclass(frozen=True)
class Cost:
    """A cost to be minimised: parameters; gmacs, 10^9 multiply-accumulates for an image; or inference_ms."""

    name: CostName
    sizes: NetworkSizes = field(default=IN_MEMORY, compare=False, repr=False)

    @property
    def is_measured(self) -> bool:
        """Whether the cost is measured by a fit, not known before training."""
        return COSTS[self.name].is_measured

    def __call__(
        self, configuration: Configuration, inference_ms: Sequence[float | None] = ()
    ) -> float | None:
        """Cost of a configuration; None while a fit must measure it. `inference_ms`: of its fits, in ms."""
        return COSTS[self.name].value(self, configuration, inference_ms)

    def text(self, value: float) -> str:
        """A value of this cost as messages and tables print it."""
        return f"{value:{COSTS[self.name].digits}}"


def _parameters(cost: Cost, configuration: Configuration, _: Sequence[float | None]) -> float:
    return float(cost.sizes.num_parameters(configuration))


def _gmacs(cost: Cost, configuration: Configuration, _: Sequence[float | None]) -> float:
    """10^9 multiply-accumulates for an image: one forward pass for each view of test-time augmentation."""
    return len(VIEWS[configuration.recipe.tta]) * cost.sizes.num_macs(configuration) / 1e9


def _inference_ms(
    _: Cost, configuration: Configuration, inference_ms: Sequence[float | None]
) -> float | None:
    measured = [ms for ms in inference_ms if ms is not None]
    return median(measured) if measured else None


COSTS: Mapping[CostName, CostKind] = {
    "parameters": CostKind(_parameters, digits=",.0f"),
    "gmacs": CostKind(_gmacs),
    "inference_ms": CostKind(_inference_ms, is_measured=True),
}
require_entries(COSTS, get_args(CostName), "costs")
