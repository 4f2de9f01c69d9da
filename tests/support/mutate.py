"""Seeded harm to files: bytes that flip, chunks that move, values and keys that nobody would write."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

# What JSON and TOML cannot say by a Python value goes in as text.
RAW = {
    "@nan": "NaN",
    "@inf": "1e999",
    "@long": "9" * 5_000,
    "@deep": "[" * 3_000 + "]" * 3_000,
    "@half": '"\\ud800"',
}
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**30, 0.0, -0.5, 1e-320, 1e308),
    *("", "a", "../../x", "/etc/hostname", "\0", "\x1b[2J", "a" * 3_000, "ä\u202e\U0001f600", "0.5", "NaN"),
    *([], {}, [[]], [None], {"": 0}, {"a": {"a": {"a": []}}}, list(range(300)), *RAW),
)
BYTES = (
    b"\0",
    b"\xff",
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b"\n",
    b"=",
    b".",
    b"-",
    b"9",
    b"e",
    b",",
    b";",
    b"\\",
    b"#",
    b"'",
)


def harmed(data: bytes, random: Random) -> bytes:
    """One to eight changes of bytes: flipped, dropped, doubled, moved, cut off, or put in."""
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        at, length = random.randrange(len(data) + 1), random.choice((1, 1, 2, 8, 64, 1024))
        chunk = data[at : at + length]
        match random.randrange(7):
            case 0 if chunk:
                data = data[:at] + bytes([chunk[0] ^ (1 << random.randrange(8))]) + data[at + 1 :]
            case 1:
                data = data[:at] + data[at + length :]
            case 2:
                data = data[:at] + chunk * random.choice((2, 3, 50)) + data[at + length :]
            case 3:
                to = random.randrange(len(data) + 1)
                data = data[:to] + chunk + data[to:]
            case 4:
                data = data[:at] if random.random() < 0.2 else data
            case 5:
                data = (
                    data[:at] + bytes(random.randrange(256) for _ in range(len(chunk))) + data[at + length :]
                )
            case _:
                data = data[:at] + random.choice(BYTES) * random.choice((1, 1, 3, 200)) + data[at:]
    return data


def misshapen(document: Any, random: Random) -> Any:
    """A copy of a JSON document in which one to four values or keys are others, gone, or swapped."""
    document = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = [*_places(document)]
        if not places:
            return copy.deepcopy(random.choice(VALUES))
        holder, key = random.choice(places)
        match random.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[random.choice(("", "a", "format", "../x", "a.b", "\0", "a" * 999, key + "s"))] = (
                    holder[key]
                )
            case 2:
                other, place = random.choice(places)
                holder[key] = copy.deepcopy(other[place]) if _has(other, place) else None
            case _:
                holder[key] = copy.deepcopy(random.choice(VALUES))
    return document


def as_json(document: Any) -> bytes:
    """With the values that only a text can say."""
    text = json.dumps(document, indent=1)
    for mark, raw in RAW.items():
        text = text.replace(json.dumps(mark), raw)
    return text.encode()


def either(data: bytes, document: Any, write: Callable[[Any], bytes], random: Random) -> bytes:
    """A file with harm to its bytes, to its meaning, or to both."""
    if random.random() < 0.4:
        return harmed(data, random)
    written = write(misshapen(document, random))
    return harmed(written, random) if random.random() < 0.2 else written


def _places(document: Any) -> Any:
    """(holder, key) of every value."""
    if isinstance(document, dict | list):
        keys = list(document) if isinstance(document, dict) else range(len(document))
        for key in keys:
            yield document, key
            yield from _places(document[key])


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)
