"""JSON, TOML and CSV files of users, limited before parsing: in size, in nesting, in the size of numbers.

Parsing can take far more memory than the file: a key of 200,000 dots, 400 kB of TOML, took 11 GB. Files beyond the
limits raise the `UserError` type that the caller names.
"""

from __future__ import annotations

import json
import math
import re
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.common.errors import UserError

MB = 1 << 20
MAX_DEPTH = 32  # brackets within brackets, and the parts of a dotted TOML key
MAX_INTEGER = 2**63 - 1
MAX_BITS = 14_000  # of an integer that Python still prints
MAX_TEXT = 200  # characters of a value in a message

_JSON_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_TOML_TOKENS = re.compile(
    r"""
      (?P<text>\"\"\"(?:\\.|[^\\])*?\"\"\" | '''.*?''' | "(?:\\.|[^"\\\n])*+" | '[^'\n]*+' | [^\s"'\#.\[\]{}=,]++)
    | (?P<open>[\[{]) | (?P<close>[\]}]) | (?P<dot>\.) | (?P<comment>\#[^\n]*+) | (?P<space>[ \t]++)
    | (?P<unended>["']) | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def read_bounded(path: Path, error: type[UserError], *, megabytes: int) -> bytes:
    """The bytes of a regular file; raises `error` for a missing or larger one."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise error(str(path), f"expected a file, found {kind_of(found.st_mode)}")
        if found.st_size > megabytes * MB:
            raise error(
                str(path),
                f"expected at most {megabytes} MB, found {found.st_size / MB:,.0f} MB; is it another file?",
            )
        return path.read_bytes()
    except OSError as refusal:
        raise error(str(path), f"cannot be read: {refusal.strerror}") from refusal
    except ValueError as refusal:  # a path with a NUL
        raise error(repr(str(path)), f"is not a path: {refusal}") from refusal


def read_json(path: Path, error: type[UserError], *, megabytes: int) -> Any:
    """The content of a JSON file; raises `error` for everything that `parse_json` and `read_bounded` reject."""
    data = read_bounded(path, error, megabytes=megabytes)
    try:
        return parse_json(data)
    except ValueError as refusal:
        raise error(str(path), f"is not readable as JSON: {refusal}") from refusal


def parse_json(data: bytes) -> Any:
    """Parse JSON. ValueError: not UTF-8, not JSON, deep nesting, repeated keys, NaN, infinities, huge integers."""
    depth = 0
    for token in _JSON_TOKENS.finditer(data):
        first = token[0][:1]
        depth += (first in b"[{") - (first in b"]}")
        _bound_depth(depth)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as refusal:
        raise ValueError(f"expected UTF-8, found another encoding at byte {refusal.start}") from refusal
    value = json.loads(
        text, object_pairs_hook=_once, parse_constant=_no_number, parse_int=_integer, parse_float=_float
    )
    if r"\u" in text:
        _no_surrogates(json.dumps(value, ensure_ascii=False))
    return value


def parse_toml(text: str, *, megabytes: int = 1) -> dict[str, Any]:
    """Parse TOML. ValueError: too large, not TOML, deep nesting, huge integers."""
    if len(text) > megabytes * MB:
        raise ValueError(f"expected at most {megabytes} MB, found {len(text) / MB:,.1f} MB")
    _bound_toml(text)
    document = tomllib.loads(text)
    _bound_integers([document])
    return document


def shown(value: object) -> str:
    """A value for a message: shortened, and without terminal control characters."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def kind_of(mode: int) -> str:
    """Kind of a file that is not a regular one, in words."""
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFLNK: "a symbolic link",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def _bound_toml(text: str) -> None:
    depth = dots = 0
    for token in _TOML_TOKENS.finditer(text):
        kind = token.lastgroup
        if kind == "unended":  # the parser fails here as well
            return
        if kind == "dot":
            dots += 1
        elif kind not in ("text", "space"):
            dots = 0
            depth += (kind == "open") - (kind == "close")
        _bound_depth(max(depth, dots))


def _bound_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep")


def _bound_integers(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise ValueError(f"an integer of {value.bit_length():,} bits")
        elif isinstance(value, dict | list):
            _bound_integers(value.values() if isinstance(value, dict) else value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {shown(twice)} is given more than once")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"expected finite numbers, found {name}")


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"expected integers of at most 64 bits, found one of {len(digits):,} digits")
    if abs(value := int(digits)) > MAX_INTEGER:
        raise ValueError(f"expected integers of at most 64 bits, found {digits}")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_number(digits[:20])


def _no_surrogates(text: str) -> None:
    if _SURROGATE.search(text):
        raise ValueError("half of a character (a lone surrogate)")
