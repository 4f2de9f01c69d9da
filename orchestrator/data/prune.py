"""What lies in the cache on disk, and how it is kept within bounds without taking anything from under a reader.

A folder goes away only while its build lock and an exclusive lock on its pixels.npy are held: no other process builds
it, and none has it open. It is first renamed, so that it is seen whole or not at all. Lock files stay: they are empty,
and two processes that lock two files of one name exclude nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import Timeout

from orchestrator.data.cache import PIXELS, VERSION, build_lock
from orchestrator.data.cases import Dataset


@dataclass(frozen=True)
class Holding:
    """One folder of arrays."""

    folder: Path
    dataset: str | None  # the dataset of the home that needs it, if any
    size: str  # "256", or "original" for the masks at their own sizes
    num_bytes: int
    last_used: datetime
    in_use: bool  # by a process that runs now, this one included


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
    return tuple(sorted(found, key=lambda one: (one.dataset is not None, one.last_used, one.folder)))


def prune(cache: Path, datasets: Sequence[Dataset], max_bytes: int | None = None) -> Pruned:
    """Remove what no dataset needs, and more of it until `max_bytes` are left; never what is in use.

    Without `max_bytes`, what the datasets need stays, however much it is.
    """
    swept = tuple(path for path in cache.glob("*/*/.*.partial") if _sweep(path))
    found = holdings(cache, datasets)
    left = sum(holding.num_bytes for holding in found)
    removed = []
    for holding in found:
        too_much = max_bytes is not None and left > max_bytes
        if (holding.dataset is None or too_much) and _remove(holding.folder):
            removed.append(holding)
            left -= holding.num_bytes
    gone = {holding.folder for holding in removed}
    return Pruned(tuple(removed), swept, tuple(one for one in found if one.folder not in gone))


def _look(folder: Path, names: Mapping[str, str]) -> Holding | None:
    """None if it goes away meanwhile."""
    try:
        return Holding(
            folder=folder,
            dataset=names.get(folder.parent.name) if folder.parent.parent.name == VERSION else None,
            size=folder.name.removeprefix("size-"),
            num_bytes=sum(file.stat().st_size for file in folder.iterdir()),
            last_used=datetime.fromtimestamp(folder.stat().st_mtime, UTC),
            in_use=not _is_free(folder),
        )
    except FileNotFoundError:
        return None


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
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        with build_lock(folder).acquire(timeout=0), _alone(folder) as alone:
            if alone:
                shutil.rmtree(partial, ignore_errors=True)
                folder.replace(partial)
                shutil.rmtree(partial)
            return alone
    except (Timeout, FileNotFoundError):
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
