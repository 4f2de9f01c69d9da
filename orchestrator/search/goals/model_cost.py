"""What a configuration costs in use: parameters and arithmetic, known before training, and the time of an inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from orchestrator.search.choices import CostName
from orchestrator.search.goals.network_sizes import IN_MEMORY, NetworkSizes
from orchestrator.search.space.space import Configuration
from orchestrator.training.recipe import VIEWS


@dataclass(frozen=True)
class Cost:
    """A number that is to be small: parameters; gmacs, 10^9 multiply-accumulates for an image; inference_ms."""

    name: CostName
    sizes: NetworkSizes = field(default=IN_MEMORY, compare=False, repr=False)

    @property
    def is_measured(self) -> bool:
        """Whether it takes a fit to know it."""
        return self.name == "inference_ms"

    def __call__(
        self, configuration: Configuration, inference_ms: Sequence[float | None] = ()
    ) -> float | None:
        """`inference_ms`: of the fits so far, in milliseconds; None while what must be measured is not."""
        match self.name:
            case "parameters":
                return float(self.sizes.num_parameters(configuration))
            case "gmacs":  # each view that is averaged costs a pass
                return len(VIEWS[configuration.recipe.tta]) * self.sizes.num_macs(configuration) / 1e9
            case "inference_ms":
                measured = [ms for ms in inference_ms if ms is not None]
                return median(measured) if measured else None
