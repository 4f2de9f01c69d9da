"""Reading of files that this program wrote: a damaged one is reported with the damage and the remedy.

A power failure, a full disk or a bad copy leaves files that are empty, truncated, end in zeros, or have other content.
Every file of a study is read by one of these functions.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from orchestrator.common.errors import BadStudy, UserError


class Unreadable(Exception):
    """A file that cannot be parsed; the message has the reason, not the file."""


def read_json(path: Path, kind: Any, remedy: str, refusal: type[UserError] = BadStudy) -> Any:
    """The JSON in a file, validated as `kind` (a type for pydantic). Raises `refusal` with the remedy if invalid."""
    try:
        return parse_json(path, kind)
    except Unreadable as error:
        raise refusal(str(path), f"{error}; {remedy}") from error


def parse_json(path: Path, kind: Any) -> Any:
    """Like `read_json`, but raises `Unreadable`."""
    return parse(read_text(path), kind)


def parse(text: str, kind: Any) -> Any:
    """A JSON text, validated as `kind`. Raises `Unreadable`."""
    if not text.strip("\0 \n"):
        raise Unreadable("is empty" if not text else "contains only zeros")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not valid JSON: {error}") from error
    return as_kind(value, kind)


def as_kind(value: Any, kind: Any) -> Any:
    """Plain values, validated as `kind`. Raises `Unreadable`."""
    try:
        return adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "as a whole"
        raise Unreadable(f"has other content than was written: {where}: {first['msg']}") from error


def read_text(path: Path) -> str:
    """The text of a file in UTF-8. Raises `Unreadable`; Python's own error if the file is missing."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not text: byte {error.object[error.start]:#04x} at {error.start}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, each verified by its checksum. Raises `Unreadable`."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except FileNotFoundError:
        raise Unreadable(f"{path.name} is missing") from None
    except (ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, OSError) as error:
        raise Unreadable(f"{path.name} is unreadable: {error or type(error).__name__}") from error


def sha256_of(path: Path) -> str:
    """64 hex digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """The validator of a type, built when it is first asked for."""
    return TypeAdapter(kind)
