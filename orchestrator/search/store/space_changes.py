"""The keys in which two search spaces differ: named when a study is resumed with a changed file."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.search.space.keys import network_of
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.space.tables import OwnTables


def changes(was: SearchSpace, now: SearchSpace) -> list[str]:
    """Keys whose values differ, a line each: "fixed.epochs: was 5, now 6". Layout and comments do not count."""
    before, after = _meaning(was), _meaning(now)
    return [
        f"{key}: was {_text(before, key)}, now {_text(after, key)}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def _meaning(space: SearchSpace) -> dict[str, Any]:
    shared = {name: dist for name, dist in space.search.items() if not network_of(name)}
    found = _named("", OwnTables(shared, space.fixed, space.baseline, space.sweeps))
    for network, own in space.own.items():
        found |= _named(f"{network}.", own)
    return found


def _named(prefix: str, said: OwnTables) -> dict[str, Any]:
    drawn = {
        key: dist.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for key, dist in said.search.items()
    }
    tables = {"search": drawn, "fixed": said.fixed, "baseline": said.baseline, "sweep": said.sweeps}
    return {f"{prefix}{table}.{key}": value for table, keys in tables.items() for key, value in keys.items()}


def _text(meaning: dict[str, Any], key: str) -> str:
    return json.dumps(meaning[key], default=str) if key in meaning else "not there"
