"""Checksums of an array on disk, one a case, written beside it: a cache that was damaged is seen before it is used.

An array whose size, times and inode are those of its last check is believed; of any other every block is read. Who
trains therefore reads nothing twice, and no byte that was changed since the array was written gets by.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from orchestrator.common.cpus import pooled
from orchestrator.common.files import write_atomically
from orchestrator.data.importing.verify import NUM_THREADS

CHECKS = "checks.json"
PIXELS = "pixels.npy"


class Damaged(Exception):
    """A folder of the cache does not hold what was written into it; the message names the file and says why."""


@dataclass(frozen=True)
class Checks:
    """What an array was when it was last known to be whole."""

    stamp: tuple[int, int, int, int]  # bytes, times of change of content and of inode in ns, inode
    crc32: tuple[int, ...]  # of the bytes of every case


_ADAPTER: TypeAdapter[Checks] = TypeAdapter(Checks)


def write_checks(folder: Path, crc32: Sequence[int]) -> None:
    """Keep the checksums of the array in `folder`, which is on disk and changes no more."""
    _write(folder, Checks(_stamp(folder / PIXELS), tuple(crc32)))


def open_checked(folder: Path, shape: tuple[int, ...], starts: Sequence[int]) -> np.ndarray:
    """Map the array in `folder`; case i has its elements from starts[i] to starts[i + 1], counted along the first axis.

    Raises `Damaged` where it is not the array of this shape that was written there.
    """
    file, checks = folder / PIXELS, _read(folder / CHECKS)
    try:
        array = np.load(file, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:  # cut short, emptied, another header
        raise Damaged(f"{file} does not open: {error}") from error
    if array.shape != shape or array.dtype != np.uint8 or len(checks.crc32) != len(starts) - 1:
        raise Damaged(f"{file} is an array of {array.dtype} {array.shape}, expected uint8 {shape}")
    if (stamp := _stamp(file)) != checks.stamp:
        wrong = _num_wrong(array, starts, checks.crc32)
        if wrong:
            raise Damaged(
                f"{file} holds other bytes than were written, in {wrong} of {len(starts) - 1} cases"
            )
        with contextlib.suppress(OSError):  # a read-only cache is read again by every process
            _write(folder, replace(checks, stamp=stamp))
    return array


def checksum(block: np.ndarray) -> int:
    """CRC-32 of the bytes of an array that lies in one piece."""
    return zlib.crc32(block.data)


def _num_wrong(array: np.ndarray, starts: Sequence[int], expected: Sequence[int]) -> int:
    def is_wrong(row: int) -> bool:
        return checksum(array[starts[row] : starts[row + 1]]) != expected[row]

    with pooled(ThreadPoolExecutor(NUM_THREADS)) as pool:
        return sum(pool.map(is_wrong, range(len(expected))))


def _read(file: Path) -> Checks:
    try:
        return _ADAPTER.validate_json(file.read_bytes())
    except FileNotFoundError:
        raise Damaged(f"{file} is missing, as in caches of earlier versions") from None
    except (OSError, ValidationError) as error:
        raise Damaged(f"{file} does not read") from error


def _write(folder: Path, checks: Checks) -> None:
    write_atomically(folder / CHECKS, _ADAPTER.dump_json(checks))


def _stamp(file: Path) -> tuple[int, int, int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
