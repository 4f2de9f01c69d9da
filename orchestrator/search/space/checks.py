"""Everything that can be wrong in a search space, found at once and said in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError
from itertools import combinations, islice, product
from typing import Any

from orchestrator import models
from orchestrator.common.user_documents import shown
from orchestrator.search.space.distributions import Choice, Int, Unread
from orchestrator.search.space.keys import NETWORK, RECIPE, SWEPT, listed, network_of, not_known, plain
from orchestrator.search.space.parameters import batch_refusal, known_keys, owners, refusal, size_refusal
from orchestrator.search.space.scalars import Scalar, same
from orchestrator.search.space.tables import Tables, calling_for, existing, in_order, recipe_problems
from orchestrator.training.recipe import Recipe

MOST_LISTED = 8  # values of one parameter that are wrong
MOST_PAIRS = 2_000  # of the values of two parameters; what is wrong beyond them fails its trial


def find_problems(tables: Tables, found: Sequence[str] = ()) -> list[str]:
    """One line for each problem, after those `found` already; what follows from another one is left out."""
    if tables.own:
        return _by_network(tables, found)
    conditions = list(_conditions(tables))
    problems = [*found, *_values(tables), *conditions]
    if not conditions:
        problems += [*_owners(tables), *_sizes(tables), *_baseline(tables)]
    return problems or list(_recipes(tables))


def _by_network(tables: Tables, found: Sequence[str]) -> list[str]:
    """The problems of a space whose networks have tables of their own: each is checked as if it were alone."""
    problems = [*found, *_owners(tables), *_never_used(tables), *_first_network(tables)]
    networks_of: dict[str, list[str]] = {}
    for network in tables.networks:
        alone = tables.member(network)
        search = {key: dist for key, dist in alone.search.items() if owners(key, [network])}
        fixed = {key: v for key, v in alone.fixed.items() if key == NETWORK or owners(key, [network])}
        strange = (alone.search.keys() | alone.fixed.keys()) - search.keys() - fixed.keys()  # said elsewhere
        baseline = {key: value for key, value in alone.baseline.items() if key not in strange}
        for problem in find_problems(Tables((network,), search, fixed, baseline)):
            networks_of.setdefault(_in_its_table(problem, tables, network), []).append(network)
    return [*dict.fromkeys(problems), *_with_networks(networks_of, tables.networks)]


def _with_networks(networks_of: Mapping[str, Sequence[str]], networks: Sequence[str]) -> Iterator[str]:
    """A line for each problem, which names the networks that have it, unless all have it or it is in their tables."""
    for problem, having in networks_of.items():
        is_named = len(having) == len(networks) or problem.startswith((f"{having[0]}.", f"{having[0]}: "))
        yield problem if is_named else f"{problem} (for {listed(having)})"


def _in_its_table(problem: str, tables: Tables, network: str) -> str:
    """The line with the tables in which the parameters stand: [unet.search] where that has them, else [search]."""
    own = tables.own_of(network)
    named = {
        "search": own.search.keys(),
        "fixed": own.fixed.keys(),
        "baseline": own.baseline.keys() | own.search.keys(),
    }

    def placed(match: re.Match[str]) -> str:
        table, key = match.groups()
        return f"{network}.{match[0]}" if key in named[table] else match[0]

    where, colon, what = problem.partition(": ")
    if where == "search" or where.startswith("fixed and baseline"):
        where = f"{network}: {where}"
    return re.sub(r"\b(search|fixed|baseline)\.(\w+)", placed, where) + colon + what


def _never_used(tables: Tables) -> Iterator[str]:
    """Shared values that no network uses."""
    for key in tables.fixed:
        if key != NETWORK and all(key in tables.own_of(network).keys for network in tables.networks):
            yield f"fixed.{key}: every network has its own, so leave it out here"
    searched = {plain(name) for name in tables.search if network_of(name)}
    for key in tables.baseline:
        is_used = any(key in one.search and key not in one.baseline for one in tables.own.values())
        if key in searched - tables.search.keys() and not is_used:
            yield f"baseline.{key}: every network that searches it has its own, so leave it out here"


def _first_network(tables: Tables) -> Iterator[str]:
    """A line if the network that [baseline] names is fixed anyway, or is not one of the space."""
    first = tables.baseline.get(NETWORK)
    if NETWORK in tables.fixed and first is not None:
        yield f"baseline.network: network is fixed, so it has no baseline, found {first!r}"
    elif first is not None and tables.networks and first not in tables.networks:
        yield f"baseline.network: expected {tables.search[NETWORK]}, found {first!r}"


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
        order = in_order(tables.search)
    except CycleError as error:
        yield f"search: conditions form a cycle: {' -> '.join(error.args[1])}"
        return
    yield from _never_met(tables, order)


def _never_met(tables: Tables, order: Sequence[str]) -> Iterator[str]:
    """Parameters that need values of others which never occur together. `order`: each after those it depends on."""
    needs: dict[str, dict[str, tuple[Scalar, ...]]] = {}
    for name in order:
        needs[name] = {}
        for key, values in tables.search[name].when.items():
            for other, allowed in {**needs.get(key, {}), key: values}.items():
                before = needs[name].get(other, allowed)
                both = tuple(value for value in before if any(same(value, one) for one in allowed))
                needs[name][other] = both or before
                if not both:
                    yield (
                        f"search.{name}.when: it can never be met, because it needs {other} to be "
                        f"{' or '.join(map(shown, before))} and, as its conditions depend on others, "
                        f"{' or '.join(map(shown, allowed))} as well; leave one of them out"
                    )


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
    for name in (*tables.search, *(key for key in tables.fixed if key != NETWORK)):
        key, table = plain(name), "search" if name in tables.search else "fixed"
        whose = owners(key, tables.networks)
        if name == NETWORK or not whose or isinstance(tables.search.get(name), Unread):
            continue
        without = [network for network in _networks_of(tables, name) if network not in whose]
        if without and not network_of(name):  # of its own tables it is said elsewhere
            place = " or ".join(f"[{network}.{table}]" for network in whose)
            have = "has" if len(without) == 1 else "have"
            yield f"{table}.{key}: {listed(without)} {have} no such parameter; it belongs in {place}"


def _networks_of(tables: Tables, key: str) -> tuple[str, ...]:
    """The networks with which a parameter can exist, by its conditions and those of what it depends on."""
    networks = tables.networks
    if key not in tables.search:
        return tuple(network for network in networks if key not in tables.own_of(network).keys)
    for other, values in tables.search[key].when.items():
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
            yield f"baseline.{name}: expected the value to try first, {dist}, found none"
        elif name in params and name not in active and not _of_another(tables, name, params):
            yield f"baseline.{name}: it does not exist with the rest of the baseline, found {params[name]!r}"
        elif name in params and not dist.holds(params[name]):
            yield f"baseline.{name}: expected {dist}, found {params[name]!r}"


def _of_another(tables: Tables, name: str, params: Mapping[str, Any]) -> bool:
    """Whether a value is for the baseline of another network than that of trial 0."""
    if NETWORK not in tables.search:
        return False
    others = (existing(tables, {**params, NETWORK: network}) for network in tables.networks)
    return any(name in params for params in others)


def _recipes(tables: Tables) -> Iterator[str]:
    """Problems of values that are valid alone: at most two at an extreme, the rest as in the baseline."""
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
