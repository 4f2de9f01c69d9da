"""Decode once: memory-mapped uint8 arrays that all fits on a node share.

cache/v2/FINGERPRINT/ holds size-256/pixels.npy (four bytes per pixel: RGB, and 255 where the mask is 1) and
original/pixels.npy (the masks at their original sizes, one bit per pixel), each with checks.json, the checksums of its
cases. Each folder is created by one rename, so that readers see a complete one; changed data has another fingerprint,
and a damaged folder is built again. A reader holds a shared lock (flock) on pixels.npy, which the kernel releases even
for a killed process, and updates the folder's mtime when opening it: `prune` removes unlocked folders, least recently
used first.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import math
import os
import shutil
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.lib.format import open_memmap

from orchestrator.common.cpus import pooled
from orchestrator.common.display import Progress
from orchestrator.common.errors import BadMachine
from orchestrator.common.files import size_text
from orchestrator.data.augmentation.steps import pack, unpack
from orchestrator.data.cache.checksums import PIXELS, Damaged, checksum, open_checked, write_checks
from orchestrator.data.cache.intact import refuse_changed
from orchestrator.data.cases import Case, Dataset
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.importing.verify import NUM_THREADS
from orchestrator.data.resize import resize_image

VERSION = "v2"  # to be raised whenever the same files give other arrays

logger = logging.getLogger(__name__)


class CachedCases:
    """Images and masks by case id. Cheap to create and to pickle, since it contains paths, not pixels."""

    def __init__(self, datasets: Sequence[Dataset], image_size: int, cache: Path) -> None:
        """The arrays must exist (see `cached_cases`), and are kept from pruning as long as this object exists.

        Raises `Damaged` for an array that differs from what was written.
        """
        self.datasets = tuple(datasets)
        self.image_size = image_size
        self._cache = cache
        with contextlib.ExitStack() as locks:
            for part in _parts(self.datasets, image_size, cache):
                locks.callback(os.close, lock_shared(part.folder))
            weakref.finalize(self, locks.pop_all().close)
        self._rows = {
            case.id: (arrays, row)
            for arrays in (_open(dataset, image_size, cache) for dataset in self.datasets)
            for row, case in enumerate(arrays.cases)
        }

    def __reduce__(self) -> tuple[type, tuple[tuple[Dataset, ...], int, Path]]:
        return type(self), (self.datasets, self.image_size, self._cache)

    def at(self, image_size: int) -> CachedCases:
        """The same cases at another image size, whose arrays are built if the cache lacks them."""
        return self if image_size == self.image_size else cached_cases(self.datasets, image_size, self._cache)

    def frame(self, case_id: str) -> np.ndarray:
        """uint8 (S, S, 4): RGB, and 255 where the mask is 1; a read-only view of the file."""
        arrays, row = self._rows[case_id]
        result: np.ndarray = arrays.frames[row]
        return result

    def image(self, case_id: str) -> np.ndarray:
        """uint8 (S, S, 3), RGB; a copy."""
        return unpack(self.frame(case_id))[0]

    def mask(self, case_id: str) -> np.ndarray:
        """uint8 (S, S) in {0, 1}, a copy; polyps much smaller than a pixel at this size are lost."""
        return unpack(self.frame(case_id))[1]

    def original_mask(self, case_id: str) -> np.ndarray:
        """bool (H, W), at the original size."""
        arrays, row = self._rows[case_id]
        case = arrays.cases[row]
        bits = arrays.bits[arrays.starts[row] : arrays.starts[row + 1]]
        return (
            np.unpackbits(bits, count=case.height * case.width).astype(bool).reshape(case.height, case.width)
        )

    def case(self, case_id: str) -> Case:
        arrays, row = self._rows[case_id]
        return arrays.cases[row]


def cached_cases(
    datasets: Sequence[Dataset], image_size: int, cache: Path, on_progress: Progress | None = None
) -> CachedCases:
    """Cached cases at a size; missing arrays are built, only once if several processes request them.

    Damaged arrays are built again, with a warning in the log. Raises `BadData` for a dataset whose files differ from
    those that were imported.
    """
    refuse_changed(datasets, cache)
    while True:
        missing = [part for part in _parts(datasets, image_size, cache) if not part.folder.exists()]
        total = sum(len(part.dataset.cases) for part in missing)
        done = 0
        for part in missing:
            for _ in _build(part):
                done += 1
                if on_progress:
                    on_progress(done, total)
        try:
            return CachedCases(datasets, image_size, cache)
        except FolderPruned:  # between building and opening
            continue
        except Damaged as damage:
            logger.warning("%s; it is decoded again", damage)
            for part in _parts(datasets, image_size, cache):
                _discard_damaged(part)


def read_sized(case: Case, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One case as cached: image uint8 (size, size, 3), RGB, mask uint8 (size, size) in {0, 1}."""
    image = resize_image(read_image(case.image), size)
    mask = resize_image(read_mask(case.mask).astype(np.uint8) * np.uint8(255), size)
    return image, (mask > 127).view(np.uint8)


class FolderPruned(Exception):
    """A folder of the cache was removed before it could be locked."""


NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP)  # errors of file systems without locks, on which prune does not work


def lock_shared(folder: Path) -> int:
    """Lock a folder against pruning until the returned descriptor is closed. Raises `FolderPruned` or `Damaged`."""
    try:
        descriptor = os.open(folder / PIXELS, os.O_RDONLY)
    except FileNotFoundError as error:
        if folder.exists() and not (folder / PIXELS).exists():
            raise Damaged(f"{folder / PIXELS} is missing") from error
        raise FolderPruned(str(folder)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    if not _is_still(folder / PIXELS, descriptor):  # pruned between opening and locking
        os.close(descriptor)
        raise FolderPruned(str(folder))
    with contextlib.suppress(OSError):  # a read-only cache stores no times
        os.utime(folder)
    return descriptor


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class _Part:
    """A folder of the cache with one array of a dataset, and the range of its elements for each case."""

    folder: Path
    dataset: Dataset
    shape: tuple[int, ...]
    starts: list[int]  # along the first axis, one entry more than cases
    decode: Callable[[Case], np.ndarray]

    def open(self) -> np.ndarray:
        return open_checked(self.folder, self.shape, self.starts)

    def fill(self, array: np.ndarray, row: int) -> int:
        """Decode a case into its elements; return the checksum."""
        block = array[self.starts[row] : self.starts[row + 1]]
        block[:] = self.decode(self.dataset.cases[row])
        return checksum(block)

    @property
    def is_sound(self) -> bool:
        try:
            self.open()
        except Damaged:
            return False
        return True


@dataclass(frozen=True)
class _OpenArrays:
    """The open arrays of one dataset."""

    cases: tuple[Case, ...]
    frames: np.ndarray
    bits: np.ndarray
    starts: list[int]


def _sized(dataset: Dataset, size: int, cache: Path) -> _Part:
    num_cases = len(dataset.cases)
    return _Part(
        cache / VERSION / dataset.fingerprint / f"size-{size}",
        dataset,
        (num_cases, size, size, 4),
        list(range(num_cases + 1)),
        lambda case: pack(*read_sized(case, size)),
    )


def _original(dataset: Dataset, cache: Path) -> _Part:
    starts = _starts(dataset)
    folder = cache / VERSION / dataset.fingerprint / "original"
    return _Part(folder, dataset, (starts[-1],), starts, lambda case: np.packbits(read_mask(case.mask)))


def _parts(datasets: Sequence[Dataset], size: int, cache: Path) -> list[_Part]:
    return [
        part for dataset in datasets for part in (_sized(dataset, size, cache), _original(dataset, cache))
    ]


def _starts(dataset: Dataset) -> list[int]:
    """Index of the first byte of each mask's bits; one entry more than cases, the last is the total."""
    return list(accumulate(((case.height * case.width + 7) // 8 for case in dataset.cases), initial=0))


def build_lock(folder: Path) -> FileLock:
    """Lock held by a process that creates or removes a folder of the cache."""
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def _build(part: _Part) -> Iterator[None]:
    """Build a part, yielding after each case; nothing if another process was faster."""
    part.folder.parent.mkdir(parents=True, exist_ok=True)
    with build_lock(part.folder):
        if part.folder.exists():
            return
        hidden = part.folder.with_name(f".{part.folder.name}.partial")
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir()
        try:
            array = _allocated(hidden / PIXELS, part.shape)
            crc32 = []
            with pooled(ThreadPoolExecutor(NUM_THREADS)) as pool:
                for one in pool.map(partial(part.fill, array), range(len(part.dataset.cases))):
                    crc32.append(one)
                    yield
            array.flush()
            del array  # writable maps may still change the mtime
            write_checks(hidden, crc32)
            hidden.replace(part.folder)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def _discard_damaged(part: _Part) -> None:
    """Remove a damaged folder unless it was rebuilt meanwhile; processes that have it open keep their data."""
    with build_lock(part.folder):
        if not part.folder.exists() or part.is_sound:
            return
        hidden = part.folder.with_name(f".{part.folder.name}.partial")
        try:
            shutil.rmtree(hidden, ignore_errors=True)
            part.folder.replace(hidden)
        except OSError as error:
            raise BadMachine(
                str(part.folder),
                f"is damaged, and cannot be replaced: {error.strerror}; remove it, or set another folder with --cache",
            ) from error
        shutil.rmtree(hidden, ignore_errors=True)


def _allocated(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new array on disk with all bytes reserved: writing to a map on a full disk would kill the process."""
    try:
        array = open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise BadMachine(
            str(path.parent.parent),
            f"cannot reserve {size_text(math.prod(shape))} for decoded images: {error.strerror}; free space with "
            "`orchestrator data cache --prune`, or set another disk with --cache",
        ) from error
    return array


def _open(dataset: Dataset, size: int, cache: Path) -> _OpenArrays:
    sized, original = _sized(dataset, size, cache), _original(dataset, cache)
    return _OpenArrays(dataset.cases, np.asarray(sized.open()), original.open(), original.starts)
