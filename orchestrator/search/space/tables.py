"""The tables of a search-space file, and which of their parameters exist together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from pydantic import ValidationError

from orchestrator.search.space.distributions import Distribution
from orchestrator.search.space.keys import NETWORK, RECIPE, network_of, plain, problems_in
from orchestrator.search.space.scalars import Scalar
from orchestrator.training.recipe import Recipe


@dataclass(frozen=True)
class OwnTables:
    """Tables of a search-space file for one network alone; they override the shared tables."""

    search: dict[str, Distribution] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    sweeps: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def keys(self) -> set[str]:
        """Keys that are searched, fixed or swept for this network alone."""
        return {*self.search, *self.fixed, *self.sweeps}


@dataclass(frozen=True)
class Tables:
    """Content of a search-space file, each part well formed, the whole not checked yet.

    The network is one of the fixed values, or, where the file opens several, one of the searched ones. No
    networks: the file names one that does not exist. `search` is by stored names: a parameter of one network's own
    table is "unet.learning_rate", with the condition that the network is that one; all other keys are plain.
    """

    networks: tuple[str, ...]
    search: dict[str, Distribution]
    fixed: dict[str, Any]
    baseline: dict[str, Any]
    own: dict[str, OwnTables] = field(default_factory=dict, kw_only=True)

    def own_of(self, network: str) -> OwnTables:
        """The tables of one network."""
        return self.own.get(network) or OwnTables()

    def fixed_of(self, network: str) -> dict[str, Any]:
        """The fixed values of a network, its name too."""
        own = self.own_of(network)
        shared = {key: value for key, value in self.fixed.items() if key not in own.keys}
        return {**shared, **own.fixed, NETWORK: network}

    def search_of(self, network: str) -> dict[str, Distribution]:
        """The searched parameters of a network, by their plain names and without conditions on the network."""
        found = {}
        for name, dist in self.search.items():
            if name != NETWORK and network in dist.when.get(NETWORK, (network,)):
                found[plain(name)] = dist.under({k: v for k, v in dist.when.items() if k != NETWORK})
        return found

    def baseline_of(self, network: str) -> dict[str, Any]:
        """Baseline values of a network in the file, by plain names; values of other networks are left out."""
        own, search = self.own_of(network), self.search_of(network)
        elsewhere = {plain(name) for name in self.search} - search.keys()
        shared = {key: value for key, value in self.baseline.items() if key not in elsewhere | {NETWORK}}
        return {**shared, **own.baseline}

    def member(self, network: str) -> Tables:
        """The tables of a file that opens this network alone."""
        return Tables((network,), self.search_of(network), self.fixed_of(network), self.baseline_of(network))


def with_own(
    search: Mapping[str, Distribution], own: Mapping[str, OwnTables], networks: Sequence[str]
) -> dict[str, Distribution]:
    """Shared and own searched parameters by stored names: a shared one exists where a network has none of its own."""
    found = {}
    for key, dist in search.items():
        if key == NETWORK or not any(key in tables.keys for tables in own.values()):
            found[key] = dist
            continue
        allowed = dist.when.get(NETWORK, tuple(networks))
        rest = tuple(one for one in allowed if one not in own or key not in own[str(one)].keys)
        if rest:
            found[key] = dist.under({**dist.when, NETWORK: rest})
    for network, tables in own.items():
        for key, dist in tables.search.items():
            found[f"{network}.{key}"] = dist.under({**dist.when, NETWORK: (network,)})
    return found


def in_order(search: Mapping[str, Distribution]) -> list[str]:
    """The searched keys, each after those it depends on, otherwise by name. Raises CycleError."""
    sorter = TopologicalSorter({name: _needed(name, search) for name in search})
    sorter.prepare()
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda name: (name != NETWORK, name))
        order += ready
        sorter.done(*ready)
    return order


def _needed(name: str, search: Mapping[str, Distribution]) -> set[str]:
    """Stored names of the parameters that a condition names: shared ones, and those of the same network."""
    whose = network_of(name)
    return {key for need in search[name].when for key in (need, f"{whose}.{need}") if key in search}


def existing(tables: Tables, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` without the searched ones whose conditions they do not meet."""
    kept = {key: value for key, value in params.items() if key not in tables.search}
    for name in in_order(tables.search):
        if name in params and tables.search[name].exists(kept):
            kept[name] = params[name]
    return kept


def calling_for(tables: Tables, name: str, value: Scalar) -> dict[str, Any]:
    """A searched parameter with this value, and what it depends on with values under which it exists."""
    params: dict[str, Any] = {}
    for key, values in tables.search[name].when.items():
        params |= calling_for(tables, key, values[0])
    return params | {name: value}


def recipe_problems(params: Mapping[str, Any], where: str) -> list[str]:
    """Why these parameters make no recipe."""
    try:
        Recipe(**{key: value for key, value in params.items() if key in RECIPE})
    except ValidationError as error:
        return problems_in(error, where)
    return []
