"""Names that a file system, or a person, may take for one: they differ in capitals or in the Unicode form alone."""

from __future__ import annotations

import unicodedata


def composed(name: str) -> str:
    """An umlaut is one letter (NFC), as macOS does not write it."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """The same text for all names that a file system which minds neither capitals nor Unicode form takes for one."""
    return composed(composed(name).casefold())


def apart_in(one: str, other: str) -> str:
    """In what alone two such names differ, to follow them in a message; "" where they are the same."""
    if one == other:
        return ""
    codes = f"the Unicode form of their letters ({one!a} and {other!a})"
    if composed(one) == composed(other):
        return f", but for {codes}"
    capitals = "upper and lower case"
    return (
        f", but for {capitals}" if one.casefold() == other.casefold() else f", but for {capitals} and {codes}"
    )
