"""Encoding of a search space as a box, in which configurations are points.

A number lies on a line from 0 to 1, by its logarithm where the space says so; a choice among numbers on one that is
longer, in their order, and so does a choice of two. Other choices are corners: a coordinate each, of which one is 1 and
the rest are 0. Most points of a box with choices are no configuration. A model knows nothing there and always will,
however often the configuration next to them is tried, so it is asked about configurations alone (Garrido-Merchan,
Hernandez-Lobato, 2020).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Array = NDArray[np.float64]
ORDER_LENGTH = 2.0  # of the line of a choice: from one to the next is further than a like step within a range


class SpaceEncoding:
    """Encoding of configurations as points of a box with D coordinates."""

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.columns = {name: _column(distribution) for name, distribution in space.items()}

    @property
    def num_parameters(self) -> int:
        """Largest number of parameters of a configuration."""
        return len(self.columns)

    @property
    def lengths(self) -> Array:
        """Side lengths of the box from 0 in which all configurations lie; (D,)."""
        return np.concatenate([np.full(column.width, column.length) for column in self.columns.values()])

    def point(self, params: Mapping[str, Any]) -> Array:
        """Point (D,) of a configuration; a parameter that it does not have is in the middle of its line."""
        parts = [
            column.place(params[name]) if name in params else np.full(column.width, column.length / 2)
            for name, column in self.columns.items()
        ]
        return np.concatenate(parts)

    def points(self, configuration: Sequence[Mapping[str, Any]]) -> Array:
        """Points (N, D) of configurations that have all parameters."""
        columns = [
            column.places([one[name] for one in configuration]) for name, column in self.columns.items()
        ]
        return np.concatenate(columns, axis=1)

    def params(self, point: Array) -> dict[str, Any]:
        """The configuration nearest to a point (D,)."""
        parts = zip(self.columns.items(), self._parts(point), strict=True)
        return {name: column.value(part) for (name, column), part in parts}

    def snap(self, points: Array) -> Array:
        """Points (N, D) of the configurations nearest to points (N, D)."""
        parts = zip(self.columns.values(), self._parts(points), strict=True)
        return np.concatenate([column.snap(part) for column, part in parts], axis=1)

    def _parts(self, points: Array) -> list[Array]:
        ends = np.cumsum([column.width for column in self.columns.values()])
        return np.split(points, ends[:-1], axis=-1)


class ChoiceOfNetworks(SpaceEncoding):
    """The space of several networks: all parameters of all of them, of which a configuration has those of its network.

    A parameter that the network does not have is in the middle of its line: there no other configuration of that
    network differs, and one of another network differs the less the nearer it is to its own middle.
    """

    def __init__(
        self, key: str, space: Mapping[str, BaseDistribution], of: Mapping[Any, Collection[str]]
    ) -> None:
        """key: the parameter that names the network, in `space`. of: network -> its parameters, `key` too."""
        super().__init__(space)
        self.key, self.of = key, {network: frozenset(names) for network, names in of.items()}
        widths = [np.full(column.width, name) for name, column in self.columns.items()]
        self.names = np.concatenate(widths)  # of the parameter of each coordinate

    @property
    def num_parameters(self) -> int:
        return max(map(len, self.of.values()))

    def points(self, configuration: Sequence[Mapping[str, Any]]) -> Array:
        return np.array([self.point(one) for one in configuration])

    def params(self, point: Array) -> dict[str, Any]:
        """The configuration nearest to a point (D,): the parameters of its network."""
        found = super().params(point)
        return {name: value for name, value in found.items() if name in self.of[found[self.key]]}

    def snap(self, points: Array) -> Array:
        snapped = super().snap(points)
        column, own = self.columns[self.key], self.names == self.key
        middle = self.lengths / 2
        for network, names in self.of.items():
            place = column.place(network)
            rows = np.abs(snapped[:, own] - place).max(axis=1) < 1e-9
            lacking = ~np.isin(self.names, [*names])
            snapped[np.ix_(rows, lacking)] = middle[lacking]
        return snapped


class _NumericAxis:
    """Coordinate, 0 to 1, of a number from low to high, by its logarithm if `log`, in steps if `step`."""

    width, length = 1, 1.0

    def __init__(self, low: float, high: float, log: bool, step: float | None) -> None:
        self.low, self.high, self.log, self.step = low, high, log, step

    def place(self, value: float) -> Array:
        return self._share(np.array([value], dtype=np.float64))

    def places(self, values: Sequence[float]) -> Array:
        return self._share(np.array(values, dtype=np.float64))[:, None]

    def value(self, part: Array) -> float:
        found = float(self._number(part)[0])
        return round(found) if isinstance(self.low, int) else found

    def snap(self, part: Array) -> Array:
        return np.clip(part, 0, 1) if self.step is None else self._share(self._number(part))

    def _share(self, numbers: Array) -> Array:
        low, high, found = (np.log(x) if self.log else x for x in (self.low, self.high, numbers))
        return np.asarray((found - low) / (high - low))

    def _number(self, shares: Array) -> Array:
        if self.log:
            found = np.exp(np.log(self.low) + shares * (np.log(self.high) - np.log(self.low)))
        else:
            found = self.low + shares * (self.high - self.low)
        if self.step is not None:
            found = self.low + self.step * np.round((found - self.low) / self.step)
        result: Array = np.clip(found, self.low, self.high)
        return result


class _Order:
    """Coordinate of an ordered choice, evenly along a line of ORDER_LENGTH."""

    width, length = 1, ORDER_LENGTH

    def __init__(self, choices: Sequence[Any]) -> None:
        self.choices, self.step = choices, self.length / (len(choices) - 1)

    def place(self, value: Any) -> Array:
        return np.array([self.step * self.choices.index(value)])

    def places(self, values: Sequence[Any]) -> Array:
        return (
            self.step * np.array([self.choices.index(value) for value in values], dtype=np.float64)[:, None]
        )

    def value(self, part: Array) -> Any:
        return self.choices[int(self._nearest(part)[0])]

    def snap(self, part: Array) -> Array:
        return self.step * self._nearest(part)

    def _nearest(self, part: Array) -> Array:
        return np.clip(np.round(part / self.step), 0, len(self.choices) - 1)


class _Corners:
    """Coordinates of an unordered choice, one for each value: 1 for the chosen one, else 0."""

    length = 1.0

    def __init__(self, choices: Sequence[Any]) -> None:
        self.choices, self.width = choices, len(choices)

    def place(self, value: Any) -> Array:
        result: Array = np.eye(self.width)[self.choices.index(value)]
        return result

    def places(self, values: Sequence[Any]) -> Array:
        return np.eye(self.width)[[self.choices.index(value) for value in values]]

    def value(self, part: Array) -> Any:
        return self.choices[int(part.argmax())]

    def snap(self, part: Array) -> Array:
        result: Array = np.eye(self.width)[part.argmax(axis=1)]
        return result


def _column(distribution: BaseDistribution) -> _NumericAxis | _Order | _Corners:
    if isinstance(distribution, CategoricalDistribution):
        choices = list(distribution.choices)
        if all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices):
            return _Order(sorted(choices))
        return _Order(choices) if len(choices) == 2 else _Corners(choices)
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return _NumericAxis(distribution.low, distribution.high, distribution.log, distribution.step)
    raise TypeError(f"no place in a box for {distribution}")
