"""Files of near-duplicates: one for each dataset and each pair of datasets, independent of all other datasets.

A file is written atomically and keyed by content fingerprints, not by names. A damaged file is reported, and its
datasets are compared again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from orchestrator.common.files import write_atomically
from orchestrator.data.cases import Dataset
from orchestrator.data.near_duplicates.comparing import Kind
from orchestrator.data.near_duplicates.landmark_files import Say

DatasetPair = tuple[Dataset, Dataset]


class NearDuplicateRow(NamedTuple):
    """A near-duplicate, with names in their datasets instead of ids: datasets of equal content share a fingerprint."""

    one: str
    other: str
    kind: Kind
    num_places: int
    likeness: float
    overlap: float
    mirrored: bool


@dataclass(frozen=True)
class ResultFiles:
    """Folder of the files of near-duplicates."""

    folder: Path
    say: Say

    def path(self, one: Dataset, other: Dataset) -> Path:
        names = [one.fingerprint] if one == other else [one.fingerprint, other.fingerprint]
        return self.folder / f"{'-'.join(names)}.json"

    def read(self, one: Dataset, other: Dataset) -> list[NearDuplicateRow] | None:
        """The near-duplicates of two datasets; None without a file. A damaged file is reported and removed."""
        path = self.path(one, other)
        try:
            content = json.loads(path.read_bytes())
            if content["checksum"] == _checksum(content["pairs"]):
                return [NearDuplicateRow(*row) for row in content["pairs"]]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            pass
        self.say(f"{path} is damaged: {one.name} and {other.name} are compared again")
        path.unlink()
        return None

    def read_all(self, pairs: Sequence[DatasetPair]) -> dict[DatasetPair, list[NearDuplicateRow]]:
        """The near-duplicates of those pairs of datasets that have a file."""
        found = ((pair, self.read(*pair)) for pair in pairs)
        return {pair: rows for pair, rows in found if rows is not None}

    def write(self, one: Dataset, other: Dataset, rows: Sequence[NearDuplicateRow]) -> None:
        content = {"checksum": _checksum(rows), "pairs": rows}
        write_atomically(self.path(one, other), json.dumps(content).encode())

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Context in which no other process searches for near-duplicates with this cache."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = search_lock(self.folder)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.say(f"another process searches for near-duplicates in {self.folder}: waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def search_lock(folder: Path) -> FileLock:
    """Lock held by the process that searches for near-duplicates, or removes their files."""
    return FileLock(folder / ".lock")


def _checksum(rows: Sequence[Sequence[object]]) -> int:
    return zlib.crc32(json.dumps(rows).encode())
