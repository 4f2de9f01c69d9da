"""Decode once: memory-mapped uint8 arrays that every fit on a node shares.

cache/v1/FINGERPRINT/ holds size-256/{images,masks}.npy and original/masks.npy (one bit a pixel). Each of the
folders appears by one rename, so whoever sees it sees all of it; changed data has another fingerprint.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from orchestrator.data.verify import NUM_THREADS, Progress

VERSION = "v1"  # raise it when the same files shall give other arrays


class CachedCases:
    """Images and masks by case id. Cheap to make, and to pickle: it travels as paths, not as pixels."""

    def __init__(self, datasets: Sequence[Dataset], image_size: int, cache: Path) -> None:
        """The arrays must exist: `cached_cases` makes them."""
        self.datasets = tuple(datasets)
        self.image_size = image_size
        self._cache = cache
        self._rows = {
            case.id: (shelf, row)
            for shelf in (_open(dataset, image_size, cache) for dataset in self.datasets)
            for row, case in enumerate(shelf.cases)
        }

    def __reduce__(self) -> tuple[type, tuple[tuple[Dataset, ...], int, Path]]:
        return type(self), (self.datasets, self.image_size, self._cache)

    def image(self, case_id: str) -> np.ndarray:
        """uint8 (S, S, 3), RGB."""
        shelf, row = self._rows[case_id]
        return np.array(shelf.images[row])

    def mask(self, case_id: str) -> np.ndarray:
        """uint8 (S, S) in {0, 1}; a polyp much smaller than a pixel of this size is lost."""
        shelf, row = self._rows[case_id]
        return np.array(shelf.masks[row])

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
    return CachedCases(datasets, image_size, cache)


@dataclass(frozen=True)
class _Part:
    """A folder of arrays, and how the rows of one case are filled in."""

    folder: Path
    dataset: Dataset
    shapes: Mapping[str, tuple[int, ...]]
    fill: Callable[[Mapping[str, np.ndarray], int], None]


@dataclass(frozen=True)
class _Shelf:
    """The open arrays of one dataset."""

    cases: tuple[Case, ...]
    images: np.ndarray
    masks: np.ndarray
    bits: np.ndarray
    starts: list[int]


def _sized(dataset: Dataset, size: int, cache: Path) -> _Part:
    count = len(dataset.cases)
    shapes = {"images": (count, size, size, 3), "masks": (count, size, size)}
    return _Part(
        _folder(dataset, cache) / f"size-{size}", dataset, shapes, partial(_fill_sized, dataset, size)
    )


def _fill_sized(dataset: Dataset, size: int, arrays: Mapping[str, np.ndarray], row: int) -> None:
    case = dataset.cases[row]
    arrays["images"][row] = resize_image(read_image(case.image), size)
    arrays["masks"][row] = resize_image(read_mask(case.mask).astype(np.uint8) * 255, size) > 127


def _original(dataset: Dataset, cache: Path) -> _Part:
    starts = _starts(dataset)
    fill = partial(_fill_original, dataset, starts)
    return _Part(_folder(dataset, cache) / "original", dataset, {"masks": (starts[-1],)}, fill)


def _fill_original(dataset: Dataset, starts: list[int], arrays: dict[str, np.ndarray], row: int) -> None:
    arrays["masks"][starts[row] : starts[row + 1]] = np.packbits(read_mask(dataset.cases[row].mask))


def _starts(dataset: Dataset) -> list[int]:
    """Where the bits of each mask begin, in bytes; one more entry than there are cases."""
    return list(accumulate(((case.height * case.width + 7) // 8 for case in dataset.cases), initial=0))


def _folder(dataset: Dataset, cache: Path) -> Path:
    return cache / VERSION / dataset.fingerprint


def _build(part: _Part) -> Iterator[None]:
    """One step for each case; none if another process was faster."""
    part.folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(part.folder.with_name(f".{part.folder.name}.lock")):
        if part.folder.exists():
            return
        hidden = part.folder.with_name(f".{part.folder.name}.partial")
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir()
        arrays = {
            name: open_memmap(hidden / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
            for name, shape in part.shapes.items()
        }
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            yield from pool.map(partial(part.fill, arrays), range(len(part.dataset.cases)))
        for array in arrays.values():
            array.flush()
        hidden.replace(part.folder)


def _open(dataset: Dataset, size: int, cache: Path) -> _Shelf:
    sized, original = _folder(dataset, cache) / f"size-{size}", _folder(dataset, cache) / "original"
    return _Shelf(
        cases=dataset.cases,
        images=np.load(sized / "images.npy", mmap_mode="r"),
        masks=np.load(sized / "masks.npy", mmap_mode="r"),
        bits=np.load(original / "masks.npy", mmap_mode="r"),
        starts=_starts(dataset),
    )
