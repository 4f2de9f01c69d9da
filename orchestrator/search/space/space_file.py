"""From a search-space file to a checked search space."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator import models
from orchestrator.common.errors import BadSpace
from orchestrator.common.names import hint
from orchestrator.common.user_documents import parse_toml, read_bounded
from orchestrator.data.augmentation.library_pipelines import canonical
from orchestrator.search.space import shipped
from orchestrator.search.space.checks import find_problems
from orchestrator.search.space.keys import NETWORK
from orchestrator.search.space.parameters import REGISTRY
from orchestrator.search.space.shipped import find_space_file
from orchestrator.search.space.space import SearchSpace, space_of
from orchestrator.search.space.toml_file import read_tables

# A TOML string that names a pipeline of albumentations, or a file that holds one.
PIPELINE = re.compile(
    r"""'(?:file:|albumentations:\[)[^'\n]*'|"(?:file:|albumentations:\[)(?:[^"\\\n]|\\.)*\""""
)
LARGEST = 2**53  # larger integers are no exact floats


def load_space(given: Path) -> SearchSpace:
    """A file, or the shipped one of that name, checked. Raises `BadSpace` with every problem in it."""
    path = find_space_file(given)
    if not path.is_file():
        near = sorted(file.name for file in path.parent.glob("*.toml"))
        raise BadSpace(
            str(path),
            f"expected a TOML file, found none; {hint(path.name, [*near, *shipped.names()])}"
            f"TOML files in {path.parent}: {', '.join(near) or 'none'}; "
            f"names of files that come with the program: {', '.join(shipped.names())}",
        )
    try:
        text = read_bounded(path, BadSpace, megabytes=1).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSpace(
            str(path), f"expected text in UTF-8, found byte {error.object[error.start]:#04x}"
        ) from error
    return parse_space(with_own_networks(with_pipelines(text, path), path), path)


def with_own_networks(text: str, path: Path) -> str:
    """The text of a search-space file, where names of the user's own networks get the digests of their files.

    A file is looked for in the folder of `path`. Raises `BadSpace` with every network that is not found.
    """
    problems: list[str] = []
    for name in _own_networks(text):
        try:
            pinned = models.own_network(name, path.parent).name
            for quote in "\"'":
                text = text.replace(f"{quote}{name}{quote}", f"{quote}{pinned}{quote}")
        except ValueError as error:
            problems.append(f"network: {error}")
    if problems:
        raise BadSpace(str(path), problems)
    return text


def with_pipelines(text: str, path: Path) -> str:
    """The text of a search-space file with the content of albumentations pipelines in place of their names.

    Raises `BadSpace` with everything that albumentations cannot build; a file is looked for in the folder of `path`.
    """
    problems: list[str] = []

    def content(token: re.Match[str]) -> str:
        quoted = token[0]
        try:
            name = quoted[1:-1] if quoted[0] == "'" else json.loads(quoted)
            return json.dumps(canonical(name, path.parent))
        except (ValueError, BadSpace) as refused:
            problems.append(f"augmentation: {quoted}: {refused}")
            return quoted

    found = PIPELINE.sub(content, text)
    if problems:
        raise BadSpace(str(path), problems)
    return found


def _own_networks(text: str) -> list[str]:
    """Names with a colon, of the user's own networks; [] for text that is no TOML, rejected later."""
    try:
        raw = parse_toml(text).get(NETWORK)
    except ValueError:
        return []
    named = raw.get("choice") if isinstance(raw, dict) else [raw]
    return [name for name in named or [] if isinstance(name, str) and ":" in name]


def parse_space(text: str, path: Path | None = None) -> SearchSpace:
    """Check the text of a file. BadSpace with every problem in it."""
    where = str(path or "search space")
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise BadSpace(where, f"expected TOML, found something else: {error}") from error
    if problems := [*_too_large(document)]:
        raise BadSpace(where, problems)
    tables, sweeps = read_tables(document, problems, REGISTRY)
    problems = find_problems(tables, problems)
    if problems:
        raise BadSpace(where, problems)
    return space_of(tables, sweeps, text, path)


def _too_large(value: Any, key: str = "") -> Iterator[str]:
    """Problems of integers that no parameter can have, and that would break the other checks."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _too_large(one, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for one in value:
            yield from _too_large(one, key)
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield f"{key}: expected an integer of at most {LARGEST:,}, found one of {len(str(abs(value)))} digits"
