"""Limits on what a configuration may cost: `parameters<=5e6`, `gmacs<=10`, `inference_ms<=20`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast, get_args

from orchestrator.common.errors import BadStudy
from orchestrator.search.choices import CostName
from orchestrator.search.goals.model_cost import Cost
from orchestrator.search.goals.network_sizes import IN_MEMORY, NetworkSizes
from orchestrator.search.space.space import Configuration

FORM = re.compile(r"\s*(\w+)\s*<=\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*")


@dataclass(frozen=True)
class Limit:
    """Upper limit on one cost of a configuration."""

    cost: Cost
    most: float

    def __str__(self) -> str:
        return f"{self.cost.name}<={_exact(self.most)}"

    def excess(self, configuration: Configuration, inference_ms: Sequence[float | None] = ()) -> float | None:
        """Excess over the limit as a share, 0 or below if it is kept; None while inference is not timed."""
        found = self.cost(configuration, inference_ms)
        return None if found is None else found / self.most - 1

    def broken(self, configuration: Configuration, inference_ms: Sequence[float | None] = ()) -> str | None:
        """Text with the cost and the limit that it exceeds; None if it does not, or is unknown."""
        found = self.cost(configuration, inference_ms)
        if found is None or found <= self.most:
            return None
        return f"{self.cost.name} {self.cost.text(found)} above the limit of {_exact(self.most)}"


def _exact(value: float) -> str:
    """Short text of a number, which is read back as the same number."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def limits_of(texts: Sequence[str], sizes: NetworkSizes = IN_MEMORY) -> tuple[Limit, ...]:
    """Limits on costs, as written. Raises `BadStudy` with every text that is no limit."""
    problems = [problem for text in texts if (problem := _problem(text)) is not None]
    if problems:
        raise BadStudy("--constraint", problems)
    parts = [FORM.fullmatch(text) for text in texts]
    return tuple(Limit(Cost(cast(CostName, part[1]), sizes), float(part[2])) for part in parts if part)


def _problem(text: str) -> str | None:
    found, known = FORM.fullmatch(text), get_args(CostName)
    if found is None:
        return f"expected a cost and its limit, such as 'parameters<=5e6', found {text!r}"
    if found[1] not in known:
        return f"expected a limit of one of {', '.join(known)}, found {found[1]}"
    try:
        return None if 0 < float(found[2]) < math.inf else f"{text}: expected a finite limit above 0"
    except ValueError:
        return f"{text}: {found[2]} is not a number"
