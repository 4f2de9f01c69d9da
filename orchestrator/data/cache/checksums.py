"""Checksums of an array on disk, one per case, stored next to it, so that damage is detected before use.

An array with the size, times and inode of its last check is trusted; any other is read completely. Training thus
reads nothing twice, and every byte that changed since the array was written is detected.
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
    """A folder of the cache differs from what was written; the message names the file and the reason."""


@dataclass(frozen=True)
class Checks:
    """State of an array at its last successful check."""

    stamp: tuple[int, int, int, int]  # bytes, mtime and ctime in ns, inode
    crc32: tuple[int, ...]  # of the bytes of each case


_ADAPTER: TypeAdapter[Checks] = TypeAdapter(Checks)


def write_checks(folder: Path, crc32: Sequence[int]) -> None:
    """Store the checksums of the array in `folder`, which is complete on disk."""
    _write(folder, Checks(_stamp(folder / PIXELS), tuple(crc32)))


def open_checked(folder: Path, shape: tuple[int, ...], starts: Sequence[int]) -> np.ndarray:
    """The array in `folder`, memory-mapped; case i has its elements from starts[i] to starts[i + 1] of the first axis.

    Raises `Damaged` if it is not the array of this shape that was written there.
    """
    file, checks = folder / PIXELS, _read(folder / CHECKS)
    try:
        array = np.load(file, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:  # truncated, empty, another header
        raise Damaged(f"{file} does not open: {error}") from error
    if array.shape != shape or array.dtype != np.uint8 or len(checks.crc32) != len(starts) - 1:
        raise Damaged(f"{file} is an array of {array.dtype} {array.shape}, expected uint8 {shape}")
    if (stamp := _stamp(file)) != checks.stamp:
        wrong = _num_wrong(array, starts, checks.crc32)
        if wrong:
            raise Damaged(f"{file} differs from what was written, in {wrong} of {len(starts) - 1} cases")
        with contextlib.suppress(OSError):  # in a read-only cache every process checks again
            _write(folder, replace(checks, stamp=stamp))
    checked: np.ndarray = array
    return checked


def checksum(block: np.ndarray) -> int:
    """CRC-32 of the bytes of a contiguous array."""
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
        raise Damaged(f"{file} cannot be parsed") from error


def _write(folder: Path, checks: Checks) -> None:
    write_atomically(folder / CHECKS, _ADAPTER.dump_json(checks))


def _stamp(file: Path) -> tuple[int, int, int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
