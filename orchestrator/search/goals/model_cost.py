"""What a setting costs in use: parameters and arithmetic are known before training, the time of an inference after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

from orchestrator.models.cost import multiply_accumulates, on_meta, size
from orchestrator.search.choices import CostName
from orchestrator.search.space.space import Configuration
from orchestrator.training.test_time_averaging import VIEWS


@dataclass(frozen=True)
class Cost:
    """A number that is to be small: parameters; gmacs, 10^9 multiply-accumulates for an image; inference_ms."""

    name: CostName

    @property
    def is_measured(self) -> bool:
        """Whether it takes a fit to know it."""
        return self.name == "inference_ms"

    def __call__(
        self, configuration: Configuration, inference_ms: Sequence[float | None] = ()
    ) -> float | None:
        """`inference_ms`: of the fits so far; None while what must be measured is not."""
        match self.name:
            case "parameters":
                return float(num_parameters(configuration))
            case "gmacs":
                return _gmacs(
                    configuration.network,
                    _shape(configuration),
                    configuration.recipe.image_size,
                    len(VIEWS[configuration.recipe.tta]),
                )
            case "inference_ms":
                measured = [ms for ms in inference_ms if ms is not None]
                return median(measured) if measured else None


def num_parameters(configuration: Configuration) -> int:
    """Learnable numbers of the network."""
    return _num_parameters(configuration.network, _shape(configuration))


def _shape(configuration: Configuration) -> str:
    """What a network is built of, as a key; it has a size without the weights it starts from."""
    return json.dumps(
        {key: value for key, value in configuration.network_params.items() if key != "weights"},
        sort_keys=True,
    )


@lru_cache(maxsize=1024)
def _num_parameters(network: str, shape: str) -> int:
    return size(on_meta(network, **json.loads(shape))).learnable


@lru_cache(maxsize=1024)
def _gmacs(network: str, shape: str, image_size: int, num_views: int) -> float:
    """Every view that is averaged costs a pass."""
    return (
        num_views * multiply_accumulates(on_meta(network, **json.loads(shape)), image_size, image_size) / 1e9
    )
