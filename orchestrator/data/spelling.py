"""Comparison of names that differ only in capitals or Unicode form, as some file systems and people do."""

from __future__ import annotations

import unicodedata


def composed(name: str) -> str:
    """The name in Unicode form NFC: an umlaut is one letter, unlike in names from macOS."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Key of a name, equal for names that differ only in capitals or Unicode form."""
    return composed(composed(name).casefold())


def difference_text(one: str, other: str) -> str:
    """Difference of two names of equal `folded` key, as the end of a message; "" if they are equal."""
    if one == other:
        return ""
    codes = f"the Unicode form of their letters ({one!a} and {other!a})"
    if composed(one) == composed(other):
        return f", but for {codes}"
    capitals = "upper and lower case"
    return (
        f", but for {capitals}" if one.casefold() == other.casefold() else f", but for {capitals} and {codes}"
    )
