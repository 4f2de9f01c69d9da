"""Everything that can be wrong in a search space, found at once and said in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from graphlib import CycleError
from itertools import combinations, islice, product

from orchestrator import models
from orchestrator.common.user_documents import shown
from orchestrator.search.space.distributions import Choice, Int, Scalar, Unread
from orchestrator.search.space.keys import NETWORK, RECIPE, SWEPT, listed, not_known
from orchestrator.search.space.parameters import batch_refusal, known_keys, owners, refusal, size_refusal
from orchestrator.search.space.tables import Tables, calling_for, existing, in_order, recipe_problems
from orchestrator.training.recipe import Recipe

MOST_LISTED = 8  # values of one parameter that are wrong
MOST_PAIRS = 2_000  # of the values of two parameters; what is wrong beyond them fails its trial


def find_problems(tables: Tables, found: Sequence[str] = ()) -> list[str]:
    """One line for each problem, after those `found` already; what follows from another one is left out."""
    conditions = list(_conditions(tables))
    problems = [*found, *_values(tables), *conditions]
    if not conditions:
        problems += [*_owners(tables), *_sizes(tables), *_baseline(tables)]
    return problems or list(_recipes(tables))


def _values(tables: Tables) -> Iterator[str]:
    networks = tables.networks or models.names()
    known = known_keys(networks)
    given = [("search", key, dist.extremes) for key, dist in tables.search.items()]
    given += [("fixed", key, (value,)) for key, value in tables.fixed.items()]
    for table, key, values in given:
        refusals = [refusal(key, value, networks) for value in values] if key in known else []
        problems = [problem for problem in refusals if problem]
        yield from (f"{table}.{key}: {problem}" for problem in problems[:MOST_LISTED])
        if len(problems) > MOST_LISTED:
            yield f"{table}.{key}: and {len(problems) - MOST_LISTED} more of its values"


def _conditions(tables: Tables) -> Iterator[str]:
    for name, dist in tables.search.items():
        for key, values in dist.when.items():
            problem = _condition(tables, key, values)
            if problem:
                yield f"search.{name}.when.{key}: {problem}"
    try:
        in_order(tables.search)
    except CycleError as error:
        yield f"search: conditions go round in a circle: {' -> '.join(error.args[1])}"


def _condition(tables: Tables, key: str, values: tuple[Scalar, ...]) -> str | None:
    if key in tables.fixed:
        return f"{key} is fixed to {tables.fixed[key]!r}, so leave out the condition, or the parameter"
    if key not in tables.search:
        return not_known(key, list(tables.search), "searched parameter")
    other = tables.search[key]
    if not isinstance(other, Choice | Int | Unread):
        return f"expected a parameter with choice or int, found {key}, which is {other}"
    never = [value for value in values if not other.holds(value)]
    texts = [shown(value) for value in never[:MOST_LISTED]]
    return f"expected {other}, found {listed(texts)}" if never else None


def _owners(tables: Tables) -> Iterator[str]:
    for key in (*tables.search, *(key for key in tables.fixed if key != NETWORK)):
        whose = owners(key, tables.networks)
        if key == NETWORK or not whose or isinstance(tables.search.get(key), Unread):
            continue
        without = [network for network in _networks_of(tables, key) if network not in whose]
        if without and key in tables.search:
            condition = f"when = {{ network = {json.dumps(whose)} }}"
            yield f"search.{key}: {listed(without)} has no such parameter; add {condition}"
        elif without:
            yield (
                f"fixed.{key}: {listed(without)} has no such parameter; "
                f"in [search] a choice of one value can carry a condition"
            )


def _networks_of(tables: Tables, key: str) -> tuple[str, ...]:
    """The networks with which a parameter can exist, by its conditions and those of what it depends on."""
    networks = tables.networks
    when = tables.search[key].when if key in tables.search else {}
    for other, values in when.items():
        allowed = values if other == NETWORK else _networks_of(tables, other)
        networks = tuple(network for network in networks if network in allowed)
    return networks


def _sizes(tables: Tables) -> Iterator[str]:
    for key, refusal_of in (("image_size", size_refusal), ("batch_size", batch_refusal)):
        default = Recipe.model_fields[key].default
        found = tables.search[key].steps if key in tables.search else [tables.fixed.get(key, default)]
        sizes = found[:100_000]  # far beyond what is accepted
        for network in _networks_of(tables, key):
            problem = refusal_of([size for size in sizes if isinstance(size, int)], network)
            if problem:
                yield f"{'search' if key in tables.search else 'fixed'}.{key}: {problem}"


def _baseline(tables: Tables) -> Iterator[str]:
    for key, value in tables.baseline.items():
        if key in tables.fixed:
            yield f"baseline.{key}: {key} is fixed, so it has no baseline, found {value!r}"
        elif key in SWEPT and key not in tables.search:
            yield f"baseline.{key}: {key} is not drawn, so it has no baseline, found {value!r}"
        elif key not in tables.search:
            yield f"baseline.{key}: {not_known(key, list(tables.search), 'searched parameter')}"
    params = {**tables.fixed, **tables.baseline}
    active = existing(tables, params)
    for name in in_order(tables.search):
        dist = tables.search[name]
        if isinstance(dist, Unread):
            continue
        if name not in params and dist.exists(active):
            yield f"baseline.{name}: expected the setting to try first, {dist}, found none"
        elif name in params and name not in active:
            yield f"baseline.{name}: it does not exist with the rest of the baseline, found {params[name]!r}"
        elif name in params and not dist.holds(params[name]):
            yield f"baseline.{name}: expected {dist}, found {params[name]!r}"


def _recipes(tables: Tables) -> Iterator[str]:
    """Values that are fine alone and not together: one or two extremes, the rest as in the baseline."""
    baseline = {**tables.fixed, **tables.baseline}
    searched = [name for name in tables.search if name in RECIPE]
    for size in range(3):
        problems = []
        for chosen in combinations(searched, size):
            where = " with ".join(f"search.{name}" for name in chosen) or "fixed and baseline"
            for values in islice(product(*(tables.search[name].extremes for name in chosen)), MOST_PAIRS):
                params = dict(baseline)
                for name, value in zip(chosen, values, strict=True):
                    params |= calling_for(tables, name, value)
                wrong = recipe_problems(existing(tables, params), where)
                if wrong:
                    problems += wrong
                    break
        if problems:
            yield from problems
            return
