"""From the document in a search-space file to its parts, each well formed; the whole is checked later."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from orchestrator.common.network_files import is_pinned
from orchestrator.common.user_documents import shown
from orchestrator.search.space.distributions import (
    KINDS,
    Choice,
    Distribution,
    Sweep,
    Unread,
    keys_with,
    parse,
)
from orchestrator.search.space.keys import NETWORK, SWEPT, Registry, listed, not_known, problems_in
from orchestrator.search.space.scalars import Scalar
from orchestrator.search.space.tables import OwnTables, Tables, with_own

_TABLES = ("search", "fixed", "baseline")
MOST_KEYS = (
    200  # of a table: more than all networks have parameters; each that is wrong has a line of its own
)


def read_tables(
    document: dict[str, Any], problems: list[str], registry: Registry | None
) -> tuple[Tables, dict[str, tuple[float, float]]]:
    """The tables of a file and its sweeps; what is malformed goes into `problems` instead.

    No registry: the file was checked before, so its networks and keys are taken as they stand.
    """
    named = _named(document.get(NETWORK))
    shared = {key: value for key, value in document.items() if key not in named or key in _TABLES}
    tables = _tables(shared, problems, "", _of_other(shared, registry), named if len(named) > 1 else ())
    networks = _networks(document.get(NETWORK), problems, registry)
    search, fixed, baseline = _parts(tables, networks, problems, registry)
    if isinstance(document.get(NETWORK), str):
        fixed[NETWORK] = document[NETWORK]
    elif len(networks) == 1:
        fixed[NETWORK] = networks[0]
    else:
        search[NETWORK] = Choice.of(networks) if networks else Unread()
        if networks:
            baseline.setdefault(NETWORK, networks[0])
    own = {
        name: _own(name, document[name], search, problems, registry) for name in networks if name in document
    }
    if own and registry is not None:
        problems += _for_no_network(search, own, networks)
    baseline |= {key: search[key].exact(value) for key, value in baseline.items() if key in search}
    read = Tables(networks, with_own(search, own, networks), fixed, baseline, own=own)
    return read, _sweeps(tables["search"], problems)


def _for_no_network(
    search: Mapping[str, Distribution], own: Mapping[str, OwnTables], networks: Sequence[str]
) -> Iterator[str]:
    """Searched parameters that no network would ever have, and conditions on networks that a file does not open."""
    for key, dist in search.items():
        allowed = dist.when.get(NETWORK, tuple(networks))
        if unknown := [name for name in allowed if name not in networks]:
            found = listed(map(shown, unknown))
            yield f"search.{key}.when.network: expected one of {', '.join(networks)}, found {found}"
        elif key != NETWORK and all(name in own and key in own[str(name)].keys for name in allowed):
            whose = "every network" if len(allowed) == len(networks) else f"each of {listed(allowed)}"
            yield f"search.{key}: {whose} has its own, so leave it out here"
    for network, tables in own.items():
        for key, dist in tables.search.items():
            allowed = dist.when.get(NETWORK, (network,))
            if network not in allowed or not set(allowed) <= set(networks):
                yield (
                    f"{network}.search.{key}.when.network: expected no condition on the network, because this table is "
                    f"that of {network} alone, found {listed(map(shown, allowed))}"
                )


def _own(
    network: str,
    raw: object,
    shared: dict[str, Distribution],
    problems: list[str],
    registry: Registry | None,
) -> OwnTables:
    """The tables of one network, such as [unet.search]."""
    if not isinstance(raw, dict):
        problems.append(f"{network}: expected tables such as [{network}.search], found {shown(raw)}")
        return OwnTables()
    found: list[str] = []
    tables = _tables(raw, found, f"{network}.")
    search, fixed, baseline = _parts(tables, (network,), found, registry, f"{network}.")
    searched = {**shared, **search}
    baseline |= {key: searched[key].exact(value) for key, value in baseline.items() if key in searched}
    sweeps = _sweeps(tables["search"], found)
    for problem in found:
        joint = ": " if problem.startswith(("no ", "file:")) else "."
        problems.append(f"{network}{joint}{problem}")
    return OwnTables(search, fixed, baseline, sweeps)


def _parts(
    tables: dict[str, dict[str, Any]],
    networks: tuple[str, ...],
    problems: list[str],
    registry: Registry | None,
    prefix: str = "",
) -> tuple[dict[str, Distribution], dict[str, Any], dict[str, Any]]:
    """Searched parameters, fixed values and baseline; `prefix`: of the tables of one network, "unet."."""
    known: Collection[str] = tables["search"].keys()
    if registry is not None:
        known = registry.keys(networks or registry.names())
        both = _keys(tables, prefix, networks or registry.names(), problems, registry)
        known = [key for key in known if key not in both]  # of which nothing else is said
    search = _search(tables["search"], known, problems)
    fixed, baseline = (_scalars(tables, name, problems) for name in ("fixed", "baseline"))
    return search, fixed, baseline


def _named(raw: object) -> list[str]:
    """Names of networks in the value of `network`, known or not."""
    listed = raw.get("choice") if isinstance(raw, dict) else [raw]
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def _of_other(document: dict[str, Any], registry: Registry | None) -> dict[str, str]:
    """Keys that are names of networks which the file does not open -> what to do."""
    known = () if registry is None else registry.names()
    return {
        name: f"{name}: network does not name {name}; add it there, or leave out its tables"
        for name in document
        if name in known or is_pinned(name)
    }


def _tables(
    document: dict[str, Any],
    problems: list[str],
    prefix: str,
    refused: Mapping[str, str] = MappingProxyType({}),
    networks: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """The tables search, fixed and baseline. `refused`: key -> problem; `networks`: may have tables, too."""
    known = _TABLES if prefix else (NETWORK, *_TABLES)
    if len(document) > MOST_KEYS:
        problems.append(_too_many("file", document, "keys"))
        document = {}
    for key, value in document.items():
        if key not in known:
            could_be = (*known, *(name.partition("#")[0] for name in networks))
            problems.append(refused.get(key) or not_known(key, could_be, "table"))
        elif key in _TABLES and not isinstance(value, dict):
            problems.append(f"{key}: expected a table, [{prefix}{key}], found {shown(value)}")
        elif key in _TABLES and len(value) > MOST_KEYS:
            problems.append(_too_many(key, value, "keys"))
    fit = [key for key in _TABLES if isinstance(document.get(key), dict) and len(document[key]) <= MOST_KEYS]
    return {key: dict(document[key]) if key in fit else {} for key in _TABLES}


def _too_many(where: str, values: Collection[Any], what: str) -> str:
    return f"{where}: expected at most {MOST_KEYS} {what}, found {len(values):,}"


def _networks(raw: object, problems: list[str], registry: Registry | None) -> tuple[str, ...]:
    """The networks of a file; none where it names one that does not exist."""
    choice = raw["choice"] if isinstance(raw, dict) and list(raw) == ["choice"] else [raw]
    named = choice if isinstance(choice, list) else []
    if len(named) > MOST_KEYS:
        problems.append(_too_many("network", named, "names"))
        return ()
    if not named or not all(isinstance(name, str) for name in named):
        problems.append(
            f'network: expected a name, or {{ choice = ["a", "b"] }}, found {shown(raw)}{_known(registry)}'
        )
        return ()
    if len(set(named)) < len(named):
        problems.append(f"network: expected names that differ, found {listed(named)}")
    names = named if registry is None else registry.names()
    unknown = [name for name in named if name not in names and not is_pinned(name)]
    problems += [f"network: {not_known(name, names, 'network')}" for name in unknown]
    return () if unknown else tuple(dict.fromkeys(named))


def _known(registry: Registry | None) -> str:
    return "" if registry is None else f"; known: {', '.join(registry.names())}"


def _keys(
    tables: dict[str, dict[str, Any]],
    prefix: str,
    networks: tuple[str, ...],
    problems: list[str],
    registry: Registry,
) -> list[str]:
    """Put what is wrong with the keys of the tables into `problems`; returns those that are searched and fixed."""
    known = registry.keys(networks)
    if prefix and tables["baseline"].pop(NETWORK, None) is not None:
        problems.append(f"baseline.network: expected in [baseline], found in [{prefix}baseline]")
    for name in ("search", "fixed"):
        for key in tables[name]:
            if key == NETWORK:
                problems.append(f"{name}.network: expected at the top of the file, found in [{prefix}{name}]")
            elif key not in known:
                problems.append(f"{name}.{key}: {registry.unknown(key, networks)}")
    both = [key for key in tables["search"] if key in tables["fixed"]]
    for key in both:
        problems.append(f"{key}: expected in [{prefix}search] or in [{prefix}fixed], found in both")
        del tables["fixed"][key]
    return both


def _search(table: dict[str, Any], known: Collection[str], problems: list[str]) -> dict[str, Distribution]:
    """The searched parameters; `Unread` stands for what is malformed or unknown."""
    search: dict[str, Distribution] = {}
    for key, raw in table.items():
        if key != NETWORK and not _is_sweep(key, raw):
            distribution = _distribution(f"search.{key}", raw, problems)
            search[key] = distribution if key in known else Unread()
    return search


def _distribution(where: str, raw: Any, problems: list[str]) -> Distribution:
    try:
        return parse(raw)
    except ValidationError as error:
        kind = next(kind for kind in KINDS if kind in raw)
        problems += problems_in(error, where, keys_with(kind))
    except ValueError as error:
        problems.append(f"{where}: {error}")
    return Unread()


def _sweeps(table: dict[str, Any], problems: list[str]) -> dict[str, tuple[float, float]]:
    sweeps = {}
    for key in SWEPT:
        if _is_sweep(key, table.get(key)):
            try:
                sweeps[key] = Sweep.model_validate(table[key]).sweep
            except ValidationError as error:
                problems += problems_in(error, f"search.{key}", keys_with("sweep"))
    return sweeps


def _is_sweep(key: str, raw: Any) -> bool:
    return key in SWEPT and isinstance(raw, dict) and "sweep" in raw


def _scalars(tables: dict[str, dict[str, Any]], name: str, problems: list[str]) -> dict[str, Any]:
    values = {}
    for key, value in tables[name].items():
        if not isinstance(value, Scalar):
            problems.append(
                f"{name}.{key}: expected a single number, string or boolean, found {shown(value)}"
            )
        else:
            values[key] = value
    return values
