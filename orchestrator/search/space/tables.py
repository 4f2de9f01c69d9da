"""The tables of a search-space file, and which of their parameters exist together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from pydantic import ValidationError

from orchestrator.search.space.distributions import Distribution, Scalar
from orchestrator.search.space.keys import NETWORK, RECIPE, problems_in
from orchestrator.training.recipe import Recipe


@dataclass(frozen=True)
class Tables:
    """What a file says, each part well formed, the whole not checked yet.

    The network is one of the fixed values, or, where the file opens several, one of the searched ones. No
    networks: the file names one that does not exist.
    """

    networks: tuple[str, ...]
    search: dict[str, Distribution]
    fixed: dict[str, Any]
    baseline: dict[str, Any]


def in_order(search: Mapping[str, Distribution]) -> list[str]:
    """The searched keys, each after those it depends on, otherwise by name. Raises CycleError."""
    sorter = TopologicalSorter({name: set(dist.when) & set(search) for name, dist in search.items()})
    sorter.prepare()
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda name: (name != NETWORK, name))
        order += ready
        sorter.done(*ready)
    return order


def existing(tables: Tables, params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` without the searched ones whose conditions they do not meet."""
    kept = {key: value for key, value in params.items() if key not in tables.search}
    for name in in_order(tables.search):
        if name in params and tables.search[name].exists(kept):
            kept[name] = params[name]
    return kept


def calling_for(tables: Tables, name: str, value: Scalar) -> dict[str, Any]:
    """A searched value, and those on which its parameter depends."""
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
