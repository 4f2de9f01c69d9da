"""Disk space of an import: checked before anything is copied, and reported in bytes when it runs out."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.common.errors import MachineFault, UserError
from orchestrator.common.faults import FAULTS, machine_fault
from orchestrator.data.sources.pairs import Pair

AGAIN = "then give the same command again; nothing of this import is left"
FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskSpace:
    """Disk space that an import needs; `needed` grows as it becomes known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.needed = 0  # bytes

    def reserve(self, pairs: Sequence[Pair], partial: Path) -> None:
        """Raise MachineFault if copies of these files do not fit, apart from copies of an earlier run."""
        there = sum(path.stat().st_size for path in partial.glob("*/*")) if partial.exists() else 0
        self.needed = max(0, sum(_size(path) for pair in pairs for path in (pair.image, pair.mask)) - there)
        if self.needed > shutil.disk_usage(self.folder).free:
            raise MachineFault(str(self.folder), f"{self.missing()}; {FAULTS[errno.ENOSPC]}, {AGAIN}")

    def missing(self) -> str:
        """Text such as `the import needs 3,000 bytes, 1,000 are free: 2,000 are missing`."""
        free = shutil.disk_usage(self.folder).free
        short = self.needed - free
        used_up = "a quota, or the disk's number of files, is used up"
        rest = f"{short:,} are missing" if short > 0 else used_up
        return f"the import needs {self.needed:,} bytes, {free:,} are free: {rest}"

    @contextmanager
    def cleaning_up(self, *halves: Path) -> Iterator[None]:
        """Context in which a disk error removes the folders `halves`, and becomes one sentence with a path."""
        try:
            yield
        except Exception as error:
            fault = machine_fault(error)
            if fault is None:
                raise
            for half in halves:
                shutil.rmtree(half, ignore_errors=True)
            worded = self._worded(error, fault)
            if worded is error:  # in words already
                raise
            raise worded from error

    def _worded(self, error: BaseException, fault: MachineFault) -> MachineFault:
        number = _errno(error)
        if number is None or (
            number in FULL and isinstance(error, UserError)
        ):  # in words already, with bytes
            return fault
        where = str(self.folder) if fault.where == "this machine" else fault.where
        missing = ""
        if number in FULL and self.needed:
            with suppress(OSError):
                missing = f"; {self.missing()}"
        return MachineFault(where, f"{os.strerror(number)}{missing}; {FAULTS[number]}, {AGAIN}")


def _errno(error: BaseException | None) -> int | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno in FAULTS:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def _size(path: Path) -> int:
    with suppress(OSError):  # reported for the file itself when it is read
        return path.stat().st_size
    return 0
