"""What lies in the cache on disk, and how it is kept within bounds without taking anything from under a reader.

A folder goes away only while its build lock and an exclusive lock on its pixels.npy are held: no other process builds
it, and none has it open. It is first renamed, so that it is seen whole or not at all. Lock files stay: they are empty,
and two processes that lock two files of one name exclude nobody. What was found of near-duplicates lies in single
files, which go away while no process looks for any.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from filelock import Timeout

from orchestrator.data.cache.frames import PIXELS, VERSION, build_lock
from orchestrator.data.cases import Dataset
from orchestrator.data.near_duplicates.answers import search_lock
from orchestrator.data.near_duplicates.find import FOLDER as LEAKS
from orchestrator.data.near_duplicates.find import VERSION as LEAKS_VERSION

LANDMARKS, ANSWERS = "landmarks", "near-duplicates"


@dataclass(frozen=True)
class Holding:
    """A folder of arrays, or files about one dataset in a folder."""

    folder: Path
    fingerprint: str
    dataset: str | None  # the dataset of the home that needs it, if any
    size: str  # "256", "original" for the masks at their own sizes, or the kind of files
    num_bytes: int
    last_used: datetime
    in_use: bool  # by a process that runs now, this one included
    files: tuple[Path, ...] = ()  # where the folder holds others, too


@dataclass(frozen=True)
class Pruned:
    """What was done: folders that went away, and partial folders of killed builds that were swept."""

    removed: tuple[Holding, ...]
    swept: tuple[Path, ...]
    kept: tuple[Holding, ...]


def holdings(cache: Path, datasets: Sequence[Dataset]) -> tuple[Holding, ...]:
    """Everything that is complete, in the order in which it would be pruned.

    First what no dataset of the home needs, then the rest; in each part, longest unused first.
    """
    names = {dataset.fingerprint: dataset.name for dataset in datasets}
    found = [
        holding
        for folder in cache.glob("*/*/*")
        if folder.is_dir() and not folder.name.startswith(".") and (holding := _look(folder, names))
    ]
    found += [holding for folder in (cache / LEAKS).glob("*") for holding in _look_at_files(folder, names)]
    return tuple(
        sorted(found, key=lambda one: (one.dataset is not None, one.last_used, one.folder, one.size))
    )


def prune(cache: Path, datasets: Sequence[Dataset], max_bytes: int | None = None) -> Pruned:
    """Remove what no dataset needs, and more of it until `max_bytes` are left; never what is in use.

    Without `max_bytes`, what the datasets need stays, however much it is. Which near-duplicates they have stays anyway:
    it is small, and takes long to find.
    """
    swept = tuple(
        path
        for path in cache.glob("*/*/.*.partial")
        if (_remove_files([path]) if path.parent.parent.name == LEAKS else _sweep(path))
    )
    found = holdings(cache, datasets)
    left = sum(holding.num_bytes for holding in found)
    removed = []
    for holding in found:
        too_much = max_bytes is not None and left > max_bytes and holding.size != ANSWERS
        remove = partial(_remove_files, holding.files) if holding.files else partial(_remove, holding.folder)
        if (holding.dataset is None or too_much) and remove():
            removed.append(holding)
            left -= holding.num_bytes
    return Pruned(tuple(removed), swept, tuple(one for one in found if one not in removed))


def _look(folder: Path, names: Mapping[str, str]) -> Holding | None:
    """None if it goes away meanwhile."""
    try:
        return Holding(
            folder=folder,
            fingerprint=folder.parent.name,
            dataset=names.get(folder.parent.name) if folder.parent.parent.name == VERSION else None,
            size=folder.name.removeprefix("size-"),
            num_bytes=sum(file.stat().st_size for file in folder.iterdir()),
            last_used=datetime.fromtimestamp(folder.stat().st_mtime, UTC),
            in_use=not _is_free(folder),
        )
    except FileNotFoundError:
        return None


def _look_at_files(folder: Path, names: Mapping[str, str]) -> Iterator[Holding]:
    """Landmarks of each dataset, and which near-duplicates it has; those of two are of the one that is gone, if any."""
    owned: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in sorted(folder.glob("*.landmarks")):
        owned[file.name.rpartition("-")[0], LANDMARKS].append(file)
    for file in sorted(folder.glob("*.json")):
        marks = file.stem.split("-")
        owned[next((mark for mark in marks if mark not in names), marks[0]), ANSWERS].append(file)
    in_use = bool(owned) and not _nobody_looks(folder)
    for (fingerprint, kind), files in owned.items():
        with suppress(FileNotFoundError):  # they go away meanwhile
            stats = [file.stat() for file in files]
            yield Holding(
                folder=folder,
                fingerprint=fingerprint,
                dataset=names.get(fingerprint) if folder.name == LEAKS_VERSION else None,
                size=kind,
                num_bytes=sum(stat.st_size for stat in stats),
                last_used=datetime.fromtimestamp(max(stat.st_mtime for stat in stats), UTC),
                in_use=in_use,
                files=tuple(files),
            )


def _nobody_looks(folder: Path) -> bool:
    try:
        with search_lock(folder).acquire(timeout=0):
            return True
    except Timeout:
        return False


def _is_free(folder: Path) -> bool:
    with _alone(folder) as alone:
        return alone


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no process has the folder open; none can open it meanwhile."""
    first = folder / "masks.npy"  # what readers of version 1 of the cache lock
    with (first if first.exists() else folder / PIXELS).open(
        "r+b"
    ) as file:  # to be locked alone, a file on NFS must be open for writing
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _remove(folder: Path) -> bool:
    """False where somebody builds, reads or removes it."""
    hidden = folder.with_name(f".{folder.name}.partial")
    try:
        with build_lock(folder).acquire(timeout=0), _alone(folder) as alone:
            if alone:
                shutil.rmtree(hidden, ignore_errors=True)
                folder.replace(hidden)
                shutil.rmtree(hidden)
            return alone
    except (Timeout, FileNotFoundError):
        return False


def _remove_files(files: Sequence[Path]) -> bool:
    """Of near-duplicates; False while a process looks for some."""
    try:
        with search_lock(files[0].parent).acquire(timeout=0):
            for file in files:
                file.unlink(missing_ok=True)
            return True
    except Timeout:
        return False


def _sweep(partial: Path) -> bool:
    """Remove what a killed build or removal left; False where one is going on."""
    folder = partial.with_name(partial.name.removeprefix(".").removesuffix(".partial"))
    try:
        with build_lock(folder).acquire(timeout=0):
            shutil.rmtree(partial, ignore_errors=True)
            return not partial.exists()
    except Timeout:
        return False
