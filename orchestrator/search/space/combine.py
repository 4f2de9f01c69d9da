"""One search space from several files: their networks become a choice, equal entries shared tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.common.errors import BadSpace, Mistakes
from orchestrator.common.user_documents import parse_toml
from orchestrator.search.space.space_file import load_space, parse_space

Document = dict[str, dict[str, Any]]  # table -> key -> what the file says
TABLES = ("search", "fixed", "baseline")


def combined(files: Sequence[Path]) -> str:
    """The text of a search space over the networks of these files, or shipped spaces of these names.

    Every file must be of one network, and each of another one. Raises `BadSpace` with every problem in them.
    """
    mistakes, documents = Mistakes(), dict[str, Document]()
    for file in files:
        with mistakes.noted():
            space = load_space(file)
            if len(space.networks) > 1 or space.own:
                raise BadSpace(space.where, "expected a file of one network, found a choice")
            (network,) = space.networks
            if network in documents:
                raise BadSpace(
                    space.where, f"expected a network that no other file has, found {network} again"
                )
            documents[network] = {table: parse_toml(space.text).get(table, {}) for table in TABLES}
    mistakes.raise_all()
    if len(documents) < 2:
        raise BadSpace("space combine", f"expected two files or more, found {len(documents)}")
    text = _text(documents)
    parse_space(text)
    return text


def _text(documents: Mapping[str, Document]) -> str:
    shared = {table: _alike(documents, table) for table in TABLES}
    # The baseline of a parameter stands with its distribution, which may not be shared.
    blocks = [f"network = {{ choice = {value_text([*documents])} }}"]
    blocks += [table_text(table, shared[table]) for table in TABLES if shared[table]]
    for network, tables in documents.items():
        name = network if network.isidentifier() else json.dumps(network)
        for table in TABLES:
            if own := {key: v for key, v in tables[table].items() if key not in shared[table]}:
                blocks.append(table_text(f"{name}.{table}", own))
    return "\n\n".join(blocks) + "\n"


def _alike(documents: Mapping[str, Document], table: str) -> dict[str, Any]:
    first, *others = (one[table] for one in documents.values())
    return {
        key: value
        for key, value in first.items()
        if all(key in other and value_text(other[key]) == value_text(value) for other in others)
    }


def table_text(name: str, values: Mapping[str, Any]) -> str:
    """A table, a line for each value."""
    width = max(map(len, values))
    return "\n".join(
        [f"[{name}]", *(f"{key:{width}} = {value_text(value)}" for key, value in values.items())]
    )


def value_text(value: Any) -> str:
    """A value in TOML, on one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {value_text(one)}' for key, one in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)
