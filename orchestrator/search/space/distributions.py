"""Distributions of parameters in a search-space file: their values, and when a parameter exists."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Literal, Self

from optuna.trial import BaseTrial
from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrator.common.user_documents import shown
from orchestrator.search.space.scalars import (
    Conditions,
    Numbers,
    Scalar,
    Scalars,
    Wholes,
    is_number,
    is_whole,
    same,
)

MOST_STEPS = 1_000_000_000
MOST_SHOWN = 10
MOST_LISTED = 40  # of a choice, where it is described
OFF_GRID = 1e-8  # of a step: the most that a value may be away from the grid, as in Optuna
End = Literal["lower", "upper"]
AT_END = 0.02


class Distribution(BaseModel, ABC):
    """Distribution of one parameter: its values, and the conditions under which it exists."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    kind: ClassVar[str]

    when: Conditions = Field(
        default={}, description="the parameter exists only where these others have these values"
    )

    @abstractmethod
    def draw(self, trial: BaseTrial, name: str) -> Scalar:
        """Ask Optuna for a value."""

    @abstractmethod
    def holds(self, value: Scalar) -> bool:
        """Whether `draw` could return this value."""

    @property
    def is_by_log(self) -> bool:
        """Whether values are spread evenly over orders of magnitude."""
        return False

    def end_at(self, value: Scalar) -> End | None:
        """Which end of a range the value lies at; None inside, and where values have no order."""
        return None

    def beyond(self, end: End) -> float:
        """The first value beyond an end of a range."""
        low, high = map(float, self.extremes)
        return math.nextafter(low, -math.inf) if end == "lower" else math.nextafter(high, math.inf)

    def exact(self, value: Scalar) -> Scalar:
        """The value; one that is a step but for rounding errors of binary arithmetic becomes that step."""
        return value

    @property
    @abstractmethod
    def extremes(self) -> Sequence[Scalar]:
        """Representative values: where a network accepts these, it accepts everything in between."""

    @property
    def steps(self) -> Sequence[Scalar]:
        """Every value, where they can be counted; otherwise the extremes."""
        return self.extremes

    def under(self, when: Mapping[str, Sequence[Scalar]]) -> Self:
        """A distribution of the same values under other conditions."""
        return self.model_copy(update={"when": {key: tuple(values) for key, values in when.items()}})

    def exists(self, params: Mapping[str, Any]) -> bool:
        """Whether `params`, which hold all it depends on that exists, call for this parameter."""
        return all(
            key in params and any(same(params[key], value) for value in values)
            for key, values in self.when.items()
        )


class LogUniform(Distribution):
    """Real numbers, spread evenly over orders of magnitude."""

    kind = "log_uniform"
    bounds: Numbers = Field(alias="log_uniform", description="[low, high], 0 < low < high")

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.bounds
        if not 0 < low < high:
            raise ValueError(f"log_uniform needs 0 < low < high, found [{low}, {high}]")
        return self

    def draw(self, trial: BaseTrial, name: str) -> float:
        return trial.suggest_float(name, *self.bounds, log=True)

    def holds(self, value: Scalar) -> bool:
        low, high = self.bounds
        return is_number(value) and low <= float(value) <= high

    @property
    def is_by_log(self) -> bool:
        return True

    def end_at(self, value: Scalar) -> End | None:
        return _end(self.bounds, value, is_log=True)

    @property
    def extremes(self) -> Sequence[float]:
        return self.bounds

    def __str__(self) -> str:
        low, high = self.bounds
        return f"{low:g} to {high:g}, log-uniform"


class Uniform(Distribution):
    """Real numbers, spread evenly, all of them or every `step`."""

    kind = "uniform"
    bounds: Numbers = Field(alias="uniform", description="[low, high], low < high")
    step: float | None = Field(
        None,
        gt=0,
        strict=True,
        allow_inf_nan=False,
        description="distance of neighbors; divides high - low",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"uniform needs low < high, found [{low}, {high}]")
        if self.step is not None and (high - low) / self.step > MOST_STEPS:
            raise ValueError(
                f"uniform takes at most {MOST_STEPS:,} steps, found {self.step} for [{low}, {high}]"
            )
        if self.step is not None and self._steps(high) % 1:
            raise ValueError(
                f"uniform needs a step that divides high - low, found {self.step} for [{low}, {high}]"
            )
        return self

    def _steps(self, value: float) -> Decimal:
        """How many steps a value is above low."""
        # Decimals of what was written: in binary, 0.1 does not divide 0.3.
        return (Decimal(str(value)) - Decimal(str(self.bounds[0]))) / Decimal(str(self.step))

    def _on_grid(self, value: float) -> bool:
        steps = self._steps(value)
        return abs(steps - round(steps)) < OFF_GRID

    def draw(self, trial: BaseTrial, name: str) -> float:
        return trial.suggest_float(name, *self.bounds, step=self.step)

    def holds(self, value: Scalar) -> bool:
        low, high = self.bounds
        if not is_number(value) or not low <= float(self.exact(value)) <= high:
            return False
        return self.step is None or self._on_grid(float(value))

    def exact(self, value: Scalar) -> Scalar:
        """0.3, not 0.1 + 2 * 0.1, which is 0.30000000000000004; a value between two steps stays."""
        if self.step is None or not is_number(value) or not math.isfinite(float(value)):
            return value
        if not self._on_grid(float(value)):
            return value
        low, step = Decimal(str(self.bounds[0])), Decimal(str(self.step))
        written = float(low + round(self._steps(float(value))) * step)
        return value if value == written else written

    def end_at(self, value: Scalar) -> End | None:
        return _end(self.bounds, value)

    @property
    def extremes(self) -> Sequence[float]:
        return self.bounds

    def __str__(self) -> str:
        low, high = self.bounds
        return f"{low:g} to {high:g}" + (f" in steps of {self.step:g}" if self.step else "")


class Int(Distribution):
    """Integers from low to high, both included, all of them or every `step`."""

    kind = "int"
    bounds: Wholes = Field(alias="int", description="[low, high], low < high, both included")
    step: int = Field(1, ge=1, strict=True, description="distance of neighbors; divides high - low")
    log: bool = Field(False, strict=True, description="spread evenly over orders of magnitude; no step then")

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"int needs low < high, found [{low}, {high}]")
        if (high - low) % self.step:
            raise ValueError(
                f"int needs a step that divides high - low, found {self.step} for [{low}, {high}]"
            )
        if self.log and (low < 1 or self.step != 1):
            raise ValueError(
                f"int with log needs low >= 1 and no step, found [{low}, {high}], step {self.step}"
            )
        return self

    def draw(self, trial: BaseTrial, name: str) -> int:
        return trial.suggest_int(name, *self.bounds, step=self.step, log=self.log)

    def holds(self, value: Scalar) -> bool:
        return is_whole(value) and value in self.steps

    @property
    def is_by_log(self) -> bool:
        return self.log

    def end_at(self, value: Scalar) -> End | None:
        return _end(self.bounds, value, is_log=self.log)

    def beyond(self, end: End) -> int:
        low, high = self.bounds
        return low - 1 if end == "lower" else high + 1

    @property
    def extremes(self) -> Sequence[int]:
        return self.bounds

    @property
    def steps(self) -> Sequence[int]:
        low, high = self.bounds
        return range(low, high + 1, self.step)

    def __str__(self) -> str:
        low, high = self.bounds
        manner = ", log-uniform" if self.log else f" in steps of {self.step}" if self.step > 1 else ""
        return f"{low} to {high}{manner}"


class Choice(Distribution):
    """One of the listed values; the order of the list says nothing."""

    kind = "choice"
    values: Scalars = Field(alias="choice", description="the values to choose from")

    @classmethod
    def of(cls, values: Sequence[Scalar]) -> Choice:
        """A choice that no file spells out."""
        return cls.model_validate({"choice": list(values)})

    def draw(self, trial: BaseTrial, name: str) -> Scalar:
        return trial.suggest_categorical(name, self.values)  # type: ignore[return-value] # never None

    def holds(self, value: Scalar) -> bool:
        return any(same(value, known) for known in self.values)

    @property
    def extremes(self) -> Sequence[Scalar]:
        return self.values

    def __str__(self) -> str:
        more = f" and {len(self.values) - MOST_LISTED} more" if len(self.values) > MOST_LISTED else ""
        return f"one of {', '.join(str(value) for value in self.values[:MOST_LISTED])}{more}"


def _end(bounds: tuple[float, float], value: Scalar, is_log: bool = False) -> End | None:
    """The end within AT_END of a value, as a share of the range on its scale."""
    if not is_number(value):
        return None
    low, high, at = (math.log(one) if is_log else one for one in (*bounds, float(value)))
    share = (at - low) / (high - low)
    return "lower" if share < AT_END else "upper" if share > 1 - AT_END else None


class Unread(Distribution):
    """Stands for a distribution that a file got wrong, so that the rest of the file can be checked."""

    kind = "unread"

    def draw(self, trial: BaseTrial, name: str) -> Scalar:
        raise TypeError(f"{name} has no distribution")

    def holds(self, value: Scalar) -> bool:
        return True

    @property
    def extremes(self) -> Sequence[Scalar]:
        return ()

    def __str__(self) -> str:
        return "not readable"


class Sweep(BaseModel):
    """For threshold and reference area: no draw, the best in this range is chosen after training, at no cost."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    sweep: Numbers = Field(description="[low, high], 0 <= low < high < 1")

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.sweep
        if not 0 <= low < high < 1:
            raise ValueError(f"sweep needs 0 <= low < high < 1, found [{low}, {high}]")
        return self


KINDS: dict[str, type[Distribution]] = {kind.kind: kind for kind in (LogUniform, Uniform, Int, Choice)}


def parse(raw: object) -> Distribution:
    """The distribution that a table in [search] describes. ValueError (pydantic's are such) for any other."""
    if not isinstance(raw, dict):
        example = ", ".join(map(_toml, raw[:MOST_SHOWN])) if isinstance(raw, list) else _toml(raw)
        raise ValueError(
            f"expected a distribution such as {{ choice = [{example}] }}, found {shown(raw)}; "
            "a value that stays the same belongs in [fixed]"
        )
    kinds = [kind for kind in KINDS if kind in raw]
    if len(kinds) != 1:
        raise ValueError(f"expected exactly one of {', '.join(KINDS)}, found {', '.join(raw) or 'nothing'}")
    return KINDS[kinds[0]].model_validate(raw)


def keys_with(key: str) -> tuple[str, ...]:
    """All keys that a table can have which has `key`: a kind of distribution, or sweep."""
    model = KINDS.get(key, Sweep)
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _toml(value: object) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f'"{value}"'
        if isinstance(value, str)
        else str(value)
    )
