"""Kubernetes' schemas, which let unknown fields pass, closed; and cut to what one file uses.

    python tests/support/closed_schema.py CRD.yaml FILE.yaml > SCHEMA.json

writes the schema of the file's custom resource: every object on its way with the names that it may hold, and the rules
of those that it does hold.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

# What a node of a schema says of the value itself.
RULES = ("type", "enum", "pattern", "minimum", "maximum", "required", "maxLength")


def schema_of(definition: Path, version: str) -> dict[str, Any]:
    """The closed schema of a version of a custom resource, by its definition."""
    loaded = yaml.load(definition.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (found,) = (one for one in loaded["spec"]["versions"] if one["name"] == version)
    schema = found["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object"}
    return closed(schema)


def closed(node: Any) -> Any:
    """The node with no names but its own in every object, and integers or strings as two types."""
    if isinstance(node, list):
        return [closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    node = {name: closed(one) for name, one in node.items()}
    if node.get("x-kubernetes-int-or-string"):
        node = {**node, "type": ["integer", "string"]}
        node.pop("anyOf", None)
    is_open = node.get("x-kubernetes-preserve-unknown-fields", False)
    if node.get("type") == "object" and isinstance(node.get("properties"), dict) and not is_open:
        node.setdefault("additionalProperties", False)
    return node


def cut(node: dict[str, Any], value: Any) -> dict[str, Any]:
    """Of a closed schema what it says about a value that keeps it."""
    kept = {rule: node[rule] for rule in RULES if rule in node}
    if isinstance(value, dict) and "properties" in node:
        names = {name: {} for name in sorted(node["properties"])}
        used = {name: cut(node["properties"][name], one) for name, one in value.items()}
        return {**kept, "properties": names | used, "additionalProperties": False}
    if isinstance(value, dict) and isinstance(node.get("additionalProperties"), dict):
        rules = [cut(node["additionalProperties"], one) for one in value.values()]
        return {**kept, "additionalProperties": rules[0] if rules else {}}
    if isinstance(value, list) and value:
        return {**kept, "items": merged([cut(node["items"], one) for one in value])}
    return kept


def merged(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """One schema for the items of a list, which share their node but hold different names."""
    first, *others = schemas
    for other in others:
        names = first.get("properties", {})
        for name, rules in other.get("properties", {}).items():
            names[name] = (
                merged([names[name], rules]) if names.get(name) and rules else names.get(name) or rules
            )
        if "items" in first and "items" in other:
            first["items"] = merged([first["items"], other["items"]])
    return first


if __name__ == "__main__":
    definition, file = map(Path, sys.argv[1:])
    (resource,) = (one for one in yaml.safe_load_all(file.read_text()) if one["kind"] == "RayJob")
    print(
        json.dumps(cut(schema_of(definition, resource["apiVersion"].split("/")[1]), resource), sort_keys=True)
    )
