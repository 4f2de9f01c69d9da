"""Files and cases that an import cannot use, with reasons."""

from __future__ import annotations

from typing import NamedTuple


class Bad(NamedTuple):
    """A file, or a case, that cannot be used."""

    file: str
    why: str
    stem: str = ""  # of the case to which it belongs, if known

    def __str__(self) -> str:
        return f"{self.file}: {self.why}"
