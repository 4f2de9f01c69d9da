"""A registry and the names that may be written for its entries cannot differ."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def require_entries(registry: Collection[str], names: Iterable[str], what: str) -> None:
    """Raises RuntimeError, when a module is imported, for a name without an entry or an entry without a name."""
    given = set(names)
    if given != set(registry):
        differing = ", ".join(sorted(given.symmetric_difference(registry)))
        raise RuntimeError(f"{what}: names and registry differ in {differing}")
