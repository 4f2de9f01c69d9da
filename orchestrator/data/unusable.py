"""A file, or a case, that an import cannot use, and why."""

from __future__ import annotations

from typing import NamedTuple


class Bad(NamedTuple):
    """A file, or a case, that cannot be used."""

    file: str
    why: str
    stem: str = ""  # of the case that it would have made, if that is known

    def __str__(self) -> str:
        return f"{self.file}: {self.why}"
