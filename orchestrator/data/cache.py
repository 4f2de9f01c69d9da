"""Decode once: memory-mapped uint8 arrays that every fit on a node shares.

cache/v2/FINGERPRINT/ holds size-256/pixels.npy (four bytes a pixel: RGB, and 255 where the mask is 1) and
original/pixels.npy (the masks at their own sizes, one bit a pixel). Each of the folders appears by one rename, so
whoever sees it sees all of it; changed data has another fingerprint. Whoever reads a folder holds a shared lock (flock)
on its pixels.npy, which the kernel takes back even from a killed process, and sets its time of change when opening it:
`prune` removes what nobody holds, longest unused first.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
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

from orchestrator.data.cases import Case, Dataset, read_image, read_mask
from orchestrator.data.resize import resize_image
from orchestrator.data.transforms import pack, unpack
from orchestrator.data.verify import NUM_THREADS, Progress
from orchestrator.errors import BadMachine
from orchestrator.files import size_text

VERSION = "v2"  # raise it when the same files shall give other arrays
PIXELS = "pixels.npy"


class CachedCases:
    """Images and masks by case id. Cheap to make, and to pickle: it travels as paths, not as pixels."""

    def __init__(self, datasets: Sequence[Dataset], image_size: int, cache: Path) -> None:
        """The arrays must exist: `cached_cases` makes them. They stay as long as this object does."""
        self.datasets = tuple(datasets)
        self.image_size = image_size
        self._cache = cache
        folders = [
            folder
            for dataset in self.datasets
            for folder in (_sized_folder(dataset, image_size, cache), _original_folder(dataset, cache))
        ]
        with contextlib.ExitStack() as held:
            for folder in folders:
                held.callback(os.close, hold(folder))
            weakref.finalize(self, held.pop_all().close)
        self._rows = {
            case.id: (shelf, row)
            for shelf in (_open(dataset, image_size, cache) for dataset in self.datasets)
            for row, case in enumerate(shelf.cases)
        }

    def __reduce__(self) -> tuple[type, tuple[tuple[Dataset, ...], int, Path]]:
        return type(self), (self.datasets, self.image_size, self._cache)

    def at(self, image_size: int) -> CachedCases:
        """The same cases at another size, built if the cache lacks it."""
        return self if image_size == self.image_size else cached_cases(self.datasets, image_size, self._cache)

    def frame(self, case_id: str) -> np.ndarray:
        """uint8 (S, S, 4): RGB, and 255 where the mask is 1; where it lies on disk, and cannot be written."""
        shelf, row = self._rows[case_id]
        return shelf.frames[row]

    def image(self, case_id: str) -> np.ndarray:
        """uint8 (S, S, 3), RGB; a copy."""
        return unpack(self.frame(case_id))[0]

    def mask(self, case_id: str) -> np.ndarray:
        """uint8 (S, S) in {0, 1}, a copy; a polyp much smaller than a pixel of this size is lost."""
        return unpack(self.frame(case_id))[1]

    def original_mask(self, case_id: str) -> np.ndarray:
        """bool (H, W), at the size of the file."""
        shelf, row = self._rows[case_id]
        case = shelf.cases[row]
        bits = shelf.bits[shelf.starts[row] : shelf.starts[row + 1]]
        return (
            np.unpackbits(bits, count=case.height * case.width).astype(bool).reshape(case.height, case.width)
        )

    def case(self, case_id: str) -> Case:
        shelf, row = self._rows[case_id]
        return shelf.cases[row]


def cached_cases(
    datasets: Sequence[Dataset], image_size: int, cache: Path, on_progress: Progress | None = None
) -> CachedCases:
    """Build what the cache lacks, then open it. Processes that ask for the same at once build it once."""
    while True:
        missing = [
            part
            for dataset in datasets
            for part in (_sized(dataset, image_size, cache), _original(dataset, cache))
            if not part.folder.exists()
        ]
        total = sum(len(part.dataset.cases) for part in missing)
        done = 0
        for part in missing:
            for _ in _build(part):
                done += 1
                if on_progress:
                    on_progress(done, total)
        with contextlib.suppress(Pruned):  # between building and opening
            return CachedCases(datasets, image_size, cache)


def read_sized(case: Case, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode one case as the cache holds it: image uint8 (size, size, 3), RGB, mask uint8 (size, size) in {0, 1}."""
    image = resize_image(read_image(case.image), size)
    mask = resize_image(read_mask(case.mask).astype(np.uint8) * np.uint8(255), size)
    return image, (mask > 127).view(np.uint8)


class Pruned(Exception):
    """A folder of the cache went away before it could be held."""


NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP)  # what a file system without locks answers: nobody can prune there


def hold(folder: Path) -> int:
    """Keep a folder from being pruned until the descriptor that comes back is closed. Raises `Pruned`."""
    try:
        descriptor = os.open(folder / PIXELS, os.O_RDONLY)
    except FileNotFoundError as error:
        raise Pruned(str(folder)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    if not _is_still(folder / PIXELS, descriptor):  # pruned between opening and locking
        os.close(descriptor)
        raise Pruned(str(folder))
    with contextlib.suppress(OSError):  # a read-only cache has nothing to remember
        os.utime(folder)
    return descriptor


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class _Part:
    """A folder with an array, and how the part of one case is filled in."""

    folder: Path
    dataset: Dataset
    shape: tuple[int, ...]
    fill: Callable[[np.ndarray, int], None]


@dataclass(frozen=True)
class _Shelf:
    """The open arrays of one dataset."""

    cases: tuple[Case, ...]
    frames: np.ndarray
    bits: np.ndarray
    starts: list[int]


def _sized(dataset: Dataset, size: int, cache: Path) -> _Part:
    shape = (len(dataset.cases), size, size, 4)
    return _Part(_sized_folder(dataset, size, cache), dataset, shape, partial(_fill_sized, dataset, size))


def _fill_sized(dataset: Dataset, size: int, frames: np.ndarray, row: int) -> None:
    frames[row] = pack(*read_sized(dataset.cases[row], size))


def _original(dataset: Dataset, cache: Path) -> _Part:
    starts = _starts(dataset)
    fill = partial(_fill_original, dataset, starts)
    return _Part(_original_folder(dataset, cache), dataset, (starts[-1],), fill)


def _fill_original(dataset: Dataset, starts: list[int], bits: np.ndarray, row: int) -> None:
    bits[starts[row] : starts[row + 1]] = np.packbits(read_mask(dataset.cases[row].mask))


def _starts(dataset: Dataset) -> list[int]:
    """Where the bits of each mask begin, in bytes; one more entry than there are cases."""
    return list(accumulate(((case.height * case.width + 7) // 8 for case in dataset.cases), initial=0))


def _sized_folder(dataset: Dataset, size: int, cache: Path) -> Path:
    return cache / VERSION / dataset.fingerprint / f"size-{size}"


def _original_folder(dataset: Dataset, cache: Path) -> Path:
    return cache / VERSION / dataset.fingerprint / "original"


def build_lock(folder: Path) -> FileLock:
    """Held by whoever makes a folder of the cache, or takes it away."""
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def _build(part: _Part) -> Iterator[None]:
    """One step for each case; none if another process was faster."""
    part.folder.parent.mkdir(parents=True, exist_ok=True)
    with build_lock(part.folder):
        if part.folder.exists():
            return
        hidden = part.folder.with_name(f".{part.folder.name}.partial")
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir()
        try:
            array = _allocated(hidden / PIXELS, part.shape)
            with ThreadPoolExecutor(NUM_THREADS) as pool:
                yield from pool.map(partial(part.fill, array), range(len(part.dataset.cases)))
            array.flush()
            hidden.replace(part.folder)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def _allocated(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new array on disk, all its bytes reserved: to write to a map on a full disk kills the process."""
    array = open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise BadMachine(
                str(path.parent.parent),
                f"cannot reserve {size_text(array.nbytes)} for decoded images: {error.strerror}; make room with "
                "`orchestrator data cache --prune`, or name another disk with --cache",
            ) from error
    return array


def _open(dataset: Dataset, size: int, cache: Path) -> _Shelf:
    sized, original = _sized_folder(dataset, size, cache), _original_folder(dataset, cache)
    return _Shelf(
        cases=dataset.cases,
        frames=np.asarray(np.load(sized / PIXELS, mmap_mode="r")),
        bits=np.load(original / PIXELS, mmap_mode="r"),
        starts=_starts(dataset),
    )
