"""What a configuration costs in use: parameters and arithmetic, known before training, and the time of an inference."""

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
    """An entry of the registry."""

    value: Callable[[Cost, Configuration, Sequence[float | None]], float | None]
    is_measured: bool = False  # by a fit; else it is known before training
    digits: str = ".3g"  # how a value is printed


@dataclass(frozen=True)
class Cost:
    """A minimised number: parameters; gmacs, 10^9 multiply-accumulates for an image; inference_ms."""

    name: CostName
    sizes: NetworkSizes = field(default=IN_MEMORY, compare=False, repr=False)

    @property
    def is_measured(self) -> bool:
        """Whether it takes a fit to know it."""
        return COSTS[self.name].is_measured

    def __call__(
        self, configuration: Configuration, inference_ms: Sequence[float | None] = ()
    ) -> float | None:
        """`inference_ms`: of the fits so far, in milliseconds; None while what must be measured is not."""
        return COSTS[self.name].value(self, configuration, inference_ms)

    def text(self, value: float) -> str:
        """A value of it as messages and tables print it."""
        return f"{value:{COSTS[self.name].digits}}"


def _parameters(cost: Cost, configuration: Configuration, _: Sequence[float | None]) -> float:
    return float(cost.sizes.num_parameters(configuration))


def _gmacs(cost: Cost, configuration: Configuration, _: Sequence[float | None]) -> float:
    """Each view that test-time augmentation averages costs a pass."""
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
