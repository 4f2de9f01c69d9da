"""Values computed from the records of a study, cached on disk under digests of their inputs.

The files lie outside of the study's folder and can be deleted at any time: what is missing, does not read or was
damaged is derived again. A home that cannot be written to is read all the same, only slower. Values of each version of
the code that derives them have a folder of their own, so that those of other versions can be found, and pruned.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.common.files import write_atomically
from orchestrator.search.records.fit_records import Marks, marks_of

FORMAT = 1  # of sound.json
# Code that scores, intervals and choices follow from, below the package.
SOURCES = (
    "scoring",
    "selection",
    "search/goals",
    "search/records",
    "search/significance.py",
    "search/store/derived_scores.py",
    "search/store/snapshot.py",
)


@cache
def digest_of_rules() -> str:
    """Digest of the code that derives values, so that values of another version are not found."""
    root, digest = Path(__file__).resolve().parents[2], hashlib.sha256()
    for name in SOURCES:
        for file in sorted((root / name).rglob("*.py")) or [root / name]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def folder_of_rules() -> str:
    """Name of the folder in which this version of the code keeps what it derives."""
    return f"rules-{digest_of_rules()[:16]}"


def key_of(*parts: Any) -> str:
    """Key of a derived value: 40 hex digits of the plain values it is derived from, and of the code."""
    return hashlib.sha256(json.dumps([digest_of_rules(), *parts], sort_keys=True).encode()).hexdigest()[:40]


def stale_parts(folder: Path) -> tuple[Path, ...]:
    """Folders derived for a study by other versions of the code, and files by versions without folders."""
    others = (path for path in folder.glob("rules-*") if path.name != folder_of_rules())
    return *others, *(path for path in folder.glob("[0-9a-f]" * 40) if path.is_file())


@dataclass(frozen=True)
class Derived:
    """A derived value: a dictionary of plain values, and an array of numbers."""

    plain: dict[str, Any]
    values: NDArray[np.float64]


class DerivedFiles:
    """Derived values by key, one file each, and the records that were found sound."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sound: dict[str, list[list[Any]]] | None = None
        self._is_changed = False

    def find(self, key: str) -> Derived | None:
        """The value kept under a key; None if there is none, or its file does not read."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            digest, _, content = (self.folder / folder_of_rules() / key).read_bytes().partition(b"\n")
            if hashlib.sha256(content).hexdigest().encode() != digest:
                return None
            head, _, numbers = content.partition(b"\n")
            plain = json.loads(head)
            return Derived(plain["plain"], np.frombuffer(numbers, np.float64).reshape(plain["shape"]))
        return None

    def keep(self, key: str, plain: Mapping[str, Any], values: NDArray[np.float64] | None = None) -> None:
        """Write a derived value, if the home can be written to."""
        numbers = np.zeros(0) if values is None else np.ascontiguousarray(values, dtype=np.float64)
        head = json.dumps({"plain": dict(plain), "shape": numbers.shape}).encode()
        content = b"\n".join((head, numbers.tobytes()))
        self._write(
            f"{folder_of_rules()}/{key}", b"\n".join((hashlib.sha256(content).hexdigest().encode(), content))
        )

    def is_sound(self, folder: Path) -> bool:
        """Whether the record in that folder was read to its last byte before, and no file of it has changed since."""
        marks = marks_of(folder)
        return marks is not None and self._known().get(folder.name) == _plain(marks)

    def note_sound(self, folder: Path) -> None:
        """Remember, once `save` is called, that this record reads as it is."""
        if (marks := marks_of(folder)) is not None:
            self._known()[folder.name] = _plain(marks)
            self._is_changed = True

    def save(self) -> None:
        """Write down which records were found sound."""
        if self._is_changed:
            self._write("sound.json", json.dumps({"format": FORMAT, "records": self._known()}).encode())
            self._is_changed = False

    def _known(self) -> dict[str, list[list[Any]]]:
        if self._sound is None:
            self._sound = {}
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                found = json.loads((self.folder / "sound.json").read_bytes())
                self._sound = dict(found["records"]) if found["format"] == FORMAT else {}
        return self._sound

    def _write(self, name: str, content: bytes) -> None:
        with suppress(OSError):
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, content, sync=False)


def _plain(marks: Marks) -> list[list[Any]]:
    return [list(mark) for mark in marks]
