"""Content of the cache on disk, and pruning that never removes data in use.

A folder is removed only under its build lock and an exclusive lock on its pixels.npy: no other process builds it or
has it open. It is renamed first, so that readers see all of it or nothing. Lock files stay: they are empty, and with
two lock files of one name locks would not exclude each other. Near-duplicates are stored in single files, which are
removed only while no process searches for them.
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
from pathlib import Path

from filelock import Timeout

from orchestrator.data.cache.checksums import PIXELS
from orchestrator.data.cache.frames import VERSION, build_lock
from orchestrator.data.cases import Dataset
from orchestrator.data.near_duplicates.find import FOLDER as LEAKS
from orchestrator.data.near_duplicates.find import VERSION as LEAKS_VERSION
from orchestrator.data.near_duplicates.result_files import search_lock

LANDMARKS, NEAR_DUPLICATES = "landmarks", "near-duplicates"


@dataclass(frozen=True)
class CacheEntry:
    """A folder of arrays, or files about one dataset in a folder."""

    folder: Path
    fingerprint: str
    dataset: str | None  # the dataset in the home that needs it, if any
    size: str  # "256", "original" for masks at their original sizes, or the kind of files
    num_bytes: int
    last_used: datetime
    in_use: bool  # by any running process, including this one
    files: tuple[Path, ...] = ()  # if the folder contains others, too


@dataclass(frozen=True)
class PruneResult:
    """Result of pruning: folders that were removed, and partial folders of killed builds."""

    removed: tuple[CacheEntry, ...]
    swept: tuple[Path, ...]
    kept: tuple[CacheEntry, ...]


def cache_entries(cache: Path, datasets: Sequence[Dataset]) -> tuple[CacheEntry, ...]:
    """All complete entries, in the order in which they would be pruned.

    Entries that no dataset in the home needs come first; within both parts, least recently used first.
    """
    names = {dataset.fingerprint: dataset.name for dataset in datasets}
    found = [
        entry
        for folder in cache.glob("*/*/*")
        if folder.is_dir() and not folder.name.startswith(".") and (entry := _entry(folder, names))
    ]
    found += [entry for folder in (cache / LEAKS).glob("*") for entry in _file_entries(folder, names)]
    return tuple(
        sorted(found, key=lambda one: (one.dataset is not None, one.last_used, one.folder, one.size))
    )


def prune(cache: Path, datasets: Sequence[Dataset], max_bytes: int | None = None) -> PruneResult:
    """Remove entries that no dataset needs, and further ones until `max_bytes` are left; never those in use.

    Without `max_bytes`, entries that datasets need are kept, whatever their size. Near-duplicates of datasets are
    always kept: they are small, and take long to find.
    """
    swept = tuple(
        path
        for path in cache.glob("*/*/.*.partial")
        if (_remove_files([path]) if path.parent.parent.name == LEAKS else _sweep(path))
    )
    found = cache_entries(cache, datasets)
    left = sum(entry.num_bytes for entry in found)
    removed = []
    for entry in found:
        too_much = max_bytes is not None and left > max_bytes and entry.size != NEAR_DUPLICATES
        if (entry.dataset is None or too_much) and remove_entry(entry):
            removed.append(entry)
            left -= entry.num_bytes
    return PruneResult(tuple(removed), swept, tuple(one for one in found if one not in removed))


def remove_entry(entry: CacheEntry) -> bool:
    """Remove an entry; False if a process builds, reads or removes it, or searches for near-duplicates."""
    return _remove_files(entry.files) if entry.files else _remove(entry.folder)


def _entry(folder: Path, names: Mapping[str, str]) -> CacheEntry | None:
    """The entry of a folder; None if it is removed meanwhile."""
    try:
        return CacheEntry(
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


def _file_entries(folder: Path, names: Mapping[str, str]) -> Iterator[CacheEntry]:
    """Entries of landmarks and near-duplicates by dataset; a pair of datasets belongs to the removed one, if any."""
    owned: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in sorted(folder.glob("*.landmarks")):
        owned[file.name.rpartition("-")[0], LANDMARKS].append(file)
    for file in sorted(folder.glob("*.json")):
        marks = file.stem.split("-")
        owned[next((mark for mark in marks if mark not in names), marks[0]), NEAR_DUPLICATES].append(file)
    in_use = bool(owned) and not _is_search_idle(folder)
    for (fingerprint, kind), files in owned.items():
        with suppress(FileNotFoundError):  # removed meanwhile
            stats = [file.stat() for file in files]
            yield CacheEntry(
                folder=folder,
                fingerprint=fingerprint,
                dataset=names.get(fingerprint) if folder.name == LEAKS_VERSION else None,
                size=kind,
                num_bytes=sum(stat.st_size for stat in stats),
                last_used=datetime.fromtimestamp(max(stat.st_mtime for stat in stats), UTC),
                in_use=in_use,
                files=tuple(files),
            )


def _is_search_idle(folder: Path) -> bool:
    try:
        with search_lock(folder).acquire(timeout=0):
            return True
    except Timeout:
        return False


def _is_free(folder: Path) -> bool:
    with _exclusive(folder) as alone:
        return alone


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[bool]:
    """Context that yields True with an exclusive lock on the folder, False if another process has it open."""
    first = folder / "masks.npy"  # locked by readers of version 1 of the cache
    # for an exclusive lock on NFS a file must be open for writing
    with (first if first.exists() else folder / PIXELS).open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _remove(folder: Path) -> bool:
    """Remove a folder; False if another process builds, reads or removes it."""
    hidden = folder.with_name(f".{folder.name}.partial")
    try:
        with build_lock(folder).acquire(timeout=0), _exclusive(folder) as alone:
            if alone:
                shutil.rmtree(hidden, ignore_errors=True)
                folder.replace(hidden)
                shutil.rmtree(hidden)
            return alone
    except (Timeout, FileNotFoundError):
        return False


def _remove_files(files: Sequence[Path]) -> bool:
    """Remove files of near-duplicates; False while a process searches for them."""
    try:
        with search_lock(files[0].parent).acquire(timeout=0):
            for file in files:
                file.unlink(missing_ok=True)
            return True
    except Timeout:
        return False


def _sweep(partial: Path) -> bool:
    """Remove the partial folder of a killed build or removal; False if one is in progress."""
    folder = partial.with_name(partial.name.removeprefix(".").removesuffix(".partial"))
    try:
        with build_lock(folder).acquire(timeout=0):
            shutil.rmtree(partial, ignore_errors=True)
            return not partial.exists()
    except Timeout:
        return False
