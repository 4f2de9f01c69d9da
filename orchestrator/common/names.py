"""Names: suggestions for those that users misspell, and a check that each has an entry in its registry."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable

LONGEST = 100  # characters that are compared
ALIKE = 0.6  # of `difflib`


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`: but for case, by spelling, as its beginning or end, or by initials ("lr")."""
    name, names = name[:LONGEST].casefold(), {one.casefold(): one for one in known}
    if name in names:
        return names[name]
    if near := difflib.get_close_matches(name, names, 1, ALIKE):
        return names[near[0]]
    if len(name) < 2:
        return None
    parts = [one for one in names if one.startswith(name) or one.endswith(name)]
    initials = [one for one in names if "".join(word[:1] for word in re.split(r"[^a-z0-9]+", one)) == name]
    found = sorted([*parts, *initials], key=len)
    return names[found[0]] if found else None


def hint(name: str, known: Iterable[str]) -> str:
    """Text such as "did you mean unet? ", with a blank at its end; nothing where no name is near."""
    near = nearest(name, known)
    return "" if near is None else f"did you mean {near}? "


def meant(name: object, known: Iterable[str]) -> str:
    """Text such as "; did you mean unet?", to end a sentence; nothing where no name is near."""
    near = nearest(name, known) if isinstance(name, str) else None
    return "" if near is None else f"; did you mean {near}?"


def require_entries(registry: Collection[str], names: Iterable[str], what: str) -> None:
    """Raises RuntimeError, when a module is imported, for a name without an entry or an entry without a name."""
    given = set(names)
    if given != set(registry):
        differing = ", ".join(sorted(given.symmetric_difference(registry)))
        raise RuntimeError(f"{what}: names and registry differ in {differing}")
