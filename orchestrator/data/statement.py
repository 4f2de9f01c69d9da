"""Statements of a dataset's owner about it: card.json next to dataset.json; none is guessed or required.

It is no part of the fingerprint: it may be stated later, and a study is the same with and without.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.common.errors import BadData
from orchestrator.common.files import write_atomically
from orchestrator.common.names import hint
from orchestrator.common.stored_json import read_json
from orchestrator.data.stated_fields import FIELDS

FILE = "card.json"
LONGEST = 2000  # characters of one statement
NOT_STATED = "not stated"


class _Stated(BaseModel):
    """Content of card.json."""

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    stated: dict[str, str] = Field(default_factory=dict)


def stated(folder: Path) -> dict[str, str]:
    """Field -> statement on the dataset in a folder. Raises `BadData` for a damaged file."""
    path = folder / FILE
    if not path.is_file():
        return {}
    remedy = "move it away, and `orchestrator data describe` writes a new one"
    found: _Stated = read_json(path, _Stated, remedy, BadData)
    return {name: found.stated[name] for name in FIELDS if name in found.stated}


def all_fields(folder: Path) -> dict[str, str]:
    """Field -> statement on the dataset in a folder, "not stated" where there is none."""
    return dict.fromkeys(FIELDS, NOT_STATED) | stated(folder)


def checked(values: Mapping[str, str | None]) -> dict[str, str]:
    """Statements that were given, each in one line. Raises `BadData` for unknown fields and long texts."""
    problems = [
        f"no field is named {name}; {hint(name, FIELDS)}known: {', '.join(FIELDS)}"
        for name in values
        if name not in FIELDS
    ]
    given = {name: " ".join(value.split()) for name, value in values.items() if value is not None}
    problems += [
        f"--{name}: expected at most {LONGEST} characters, found {len(value)}"
        for name, value in given.items()
        if len(value) > LONGEST
    ]
    if problems:
        raise BadData("card", problems)
    return given


def state(folder: Path, values: Mapping[str, str]) -> dict[str, str]:
    """Add statements to those of the dataset in a folder, in place of earlier ones; "not stated" takes one back."""
    merged = {**stated(folder), **values}
    kept = {name: merged[name] for name in FIELDS if merged.get(name, NOT_STATED) != NOT_STATED}
    write_atomically(folder / FILE, json.dumps({"format": 1, "stated": kept}, indent=1).encode())
    return kept
