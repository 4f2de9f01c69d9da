"""What this program wrote, read again: a file that was damaged since is named, with what is wrong and what mends it.

A power cut, a full disk or a bad copy leaves files that are empty, cut short, end in zeros, or hold something else.
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
    """A file that does not read; the message says why, not which."""


def read_json(path: Path, kind: Any, remedy: str, refusal: type[UserError] = BadStudy) -> Any:
    """The JSON in a file as a `kind`, a type that pydantic knows. Raises `refusal` with the remedy where it is not."""
    try:
        return parse_json(path, kind)
    except Unreadable as error:
        raise refusal(str(path), f"{error}; {remedy}") from error


def parse_json(path: Path, kind: Any) -> Any:
    """As `read_json`, but raises `Unreadable`."""
    return parse(read_text(path), kind)


def parse(text: str, kind: Any) -> Any:
    """A text in JSON as a `kind`. Raises `Unreadable`."""
    if not text.strip("\0 \n"):
        raise Unreadable("is empty" if not text else "holds nothing but zeros")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"does not read as JSON: {error}") from error
    return as_kind(value, kind)


def as_kind(value: Any, kind: Any) -> Any:
    """Plain values as a `kind`. Raises `Unreadable`."""
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "as a whole"
        raise Unreadable(f"does not hold what was written: {where}: {first['msg']}") from error


def read_text(path: Path) -> str:
    """A text in UTF-8. Raises `Unreadable`; a file that is missing raises what Python does."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"is no text: byte {error.object[error.start]:#04x} at {error.start}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file; each is checked against its checksum. Raises `Unreadable`."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except FileNotFoundError:
        raise Unreadable(f"{path.name} is gone") from None
    except (ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, OSError) as error:
        raise Unreadable(f"{path.name} does not read: {error or type(error).__name__}") from error


def sha256_of(path: Path) -> str:
    """64 hex digits of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
