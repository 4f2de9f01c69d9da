"""JSON Schema of search-space files, for editors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator import models
from orchestrator.common.network_files import NAME as OWN_NETWORK
from orchestrator.search.space.distributions import KINDS, Sweep
from orchestrator.search.space.keys import NETWORK, SWEPT
from orchestrator.search.space.parameters import known_keys, value_schema


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a search-space file: what an editor can check and complete."""
    networks = models.names()
    values = {key: value_schema(key, networks) for key in known_keys(networks)}
    kinds = {name: kind.model_json_schema(by_alias=True) for name, kind in KINDS.items()}
    refs = [{"$ref": f"#/$defs/{name}"} for name in kinds]
    search = {key: {"anyOf": refs, **_description(schema)} for key, schema in values.items()}
    for key in SWEPT:
        search[key] = {"anyOf": [*refs, {"$ref": "#/$defs/sweep"}], **_description(values[key])}
    one = {"anyOf": [{"enum": list(networks)}, {"type": "string", "pattern": f"^{OWN_NETWORK.pattern}$"}]}
    several = {"type": "array", "items": one, "minItems": 2, "uniqueItems": True}
    choice = {
        "type": "object",
        "properties": {"choice": several},
        "required": ["choice"],
        "additionalProperties": False,
    }
    baseline = {NETWORK: one, **values}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Search space",
        "type": "object",
        "properties": {
            NETWORK: {"anyOf": [one, choice], "description": "the network, or those to choose from"},
            "search": _table(search, "what the searcher may change"),
            "fixed": _table(values, "what every trial shares"),
            "baseline": _table(baseline, "trial 0: the paper's value of everything that is searched"),
            **{network: _own_tables(known_keys([network]), network) for network in networks},
        },
        "patternProperties": {f"^{OWN_NETWORK.pattern}$": {"type": "object"}},
        "required": [NETWORK],
        "additionalProperties": False,
        "$defs": {**kinds, "sweep": Sweep.model_json_schema()},
    }


def _own_tables(keys: Iterable[str], network: str) -> dict[str, Any]:
    """The tables of one network of several, whose keys are those of the shared tables."""
    tables = {
        table: _table(
            {key: {"$ref": f"#/properties/{table}/properties/{key}"} for key in keys}, f"of {network} alone"
        )
        for table in ("search", "fixed", "baseline")
    }
    return _table(tables, f"what holds for {network} alone, in place of the shared tables")


def _table(properties: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "additionalProperties": False,
    }


def _description(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": schema["description"]} if "description" in schema else {}
