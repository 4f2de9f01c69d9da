"""Parameters of a search space that change nothing, for what they act with is absent.

They are no mistake, for a file may keep them for another day, but a searched one wastes trials: they are said aloud.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.common.user_documents import shown
from orchestrator.data.augmentation.names import BY_STRENGTH
from orchestrator.search.space.distributions import Choice
from orchestrator.search.space.keys import listed
from orchestrator.search.space.scalars import Scalar
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.space.tables import Tables
from orchestrator.training.recipe import Recipe, acts_with


def without_effect(space: SearchSpace) -> list[str]:
    """A line for each parameter that has no effect at all, or is drawn where it has none."""
    found = []
    for one in space.members:
        whose = f"{one.networks[0]}: " if space.own else ""
        found += [f"{whose}{line}" for line in (*_searched(one), *_fixed(one))]
    return found


def _searched(tables: Tables) -> Iterator[str]:
    for key, dist in tables.search.items():
        for other, acts in acts_with(key):
            values = _values(tables, other, dist.when.get(other))
            idle, active = ([v for v in values if acts(v) is wanted] for wanted in (False, True))
            if not active:
                yield (
                    f"search.{key} has no effect where {other} is {listed(map(shown, idle))}: its values all give "
                    f"the same network; leave it out, or {_instead(key, other)}"
                )
            elif idle and isinstance(tables.search.get(other), Choice):
                yield (
                    f"search.{key} has no effect where {other} is {listed(map(shown, idle))}; with "
                    f"when = {{ {other} = [{', '.join(map(shown, active))}] }} it is not drawn there"
                )


def _fixed(tables: Tables) -> Iterator[str]:
    for key in tables.fixed:
        for other, acts in acts_with(key):
            values = _values(tables, other, None)
            if not any(map(acts, values)):
                yield (
                    f"fixed.{key} has no effect where {other} is {listed(map(shown, values))}: leave it out, or "
                    f"{_instead(key, other)}"
                )


def _values(tables: Tables, key: str, allowed: Sequence[Scalar] | None) -> Sequence[Scalar]:
    """The values that a parameter of the recipe can have, its default where nothing sets it."""
    default = Recipe.model_fields[key].default
    if allowed is not None:
        return allowed
    if key not in tables.search:
        return [tables.fixed.get(key, default)]
    found = tables.search[key].extremes
    return [*found, default] if tables.search[key].when and default not in found else found


def _instead(key: str, other: str) -> str:
    """Advice on `other` under which `key` would have an effect: "use other = A or B", or "change other"."""
    acts = dict(acts_with(key))[other]
    schema = Recipe.model_json_schema()["properties"][other]
    useful = [value for value in (*schema.get("enum", ()), BY_STRENGTH) if acts(value)]
    return f"use {other} = {' or '.join(map(shown, useful))}" if useful else f"change {other}"
