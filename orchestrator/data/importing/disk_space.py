"""Room on the disk for an import: looked for before anything is copied, and said in bytes where it runs out."""

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
    """Counts what an import is about to write; `needed` grows as that becomes known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.needed = 0  # bytes

    def want(self, pairs: Sequence[Pair], partial: Path) -> None:
        """MachineFault where copies of these files do not fit beside what an earlier run has copied."""
        there = sum(path.stat().st_size for path in partial.glob("*/*")) if partial.exists() else 0
        self.needed = max(0, sum(_size(path) for pair in pairs for path in (pair.image, pair.mask)) - there)
        if self.needed > shutil.disk_usage(self.folder).free:
            raise MachineFault(str(self.folder), f"{self.missing()}; {FAULTS[errno.ENOSPC]}, {AGAIN}")

    def missing(self) -> str:
        """`the import needs 3,000 bytes, 1,000 are free: 2,000 are missing`"""
        free = shutil.disk_usage(self.folder).free
        short = self.needed - free
        used_up = "a quota, or the number of files that the disk takes, is used up"
        rest = f"{short:,} are missing" if short > 0 else used_up
        return f"the import needs {self.needed:,} bytes, {free:,} are free: {rest}"

    @contextmanager
    def kept(self, *halves: Path) -> Iterator[None]:
        """Let a fault of the disk remove the folders `halves`, and become one sentence with a path."""
        try:
            yield
        except Exception as error:
            fault = machine_fault(error)
            if fault is None:
                raise
            for half in halves:
                shutil.rmtree(half, ignore_errors=True)
            worded = self._in_words(error, fault)
            if worded is error:  # said already
                raise
            raise worded from error

    def _in_words(self, error: BaseException, fault: MachineFault) -> MachineFault:
        number = _errno(error)
        if number is None or (number in FULL and isinstance(error, UserError)):  # said already, with bytes
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
    with suppress(OSError):  # said of the file itself when it is read
        return path.stat().st_size
    return 0
