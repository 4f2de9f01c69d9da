"""What a home holds on disk: studies with their sizes, and files that can be made again.

Nothing that a running study, or a study that can be resumed, still needs is ever offered for removal.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.common.errors import BadData, BadStudy, UserError
from orchestrator.data.cache.prune import cache_entries
from orchestrator.data.cases import list_datasets, load_dataset
from orchestrator.ray_cluster.private_ray import temp_folder
from orchestrator.search.records.status import is_alive, read_status
from orchestrator.search.store.study_store import StudyStore, list_studies
from orchestrator.selection.nested import inner_homes

SESSION = re.compile(r"session_.*_(\d+)")  # of Ray, with the process that started it
REMOVED = ".removed-"  # begins the name of a folder that is being deleted


@dataclass(frozen=True)
class Freeable:
    """A folder, or files, that can be deleted: they are made again when they are needed."""

    what: str
    paths: tuple[Path, ...]
    num_bytes: int

    def remove(self) -> None:
        for path in self.paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def size_of(*paths: Path) -> int:
    """Bytes of files, and of those in folders, as far as they are still there."""
    total = 0
    for path in paths:
        files = path.rglob("*") if path.is_dir() else [path]
        for file in files:
            with suppress(FileNotFoundError):
                total += file.lstat().st_size if file.is_symlink() or file.is_file() else 0
    return total


def folders_of(store: StudyStore) -> tuple[Path, ...]:
    """What belongs to a study alone: its folder, those of its outer folds, and scores computed from them."""
    studies = [store, *inner_homes(store)]
    folders = [*(one.folder for one in studies), *(one.home / "derived" / one.name for one in studies)]
    return tuple(folder for folder in folders if folder.exists())


def refuse_busy(store: StudyStore) -> None:
    """Raises `BadStudy` while somebody works on the study, on this machine or another one."""
    for one in (store, *inner_homes(store)):
        if is_alive(one.status_file):
            status = read_status(one.status_file)
            where = f"process {status.pid} on {status.host}" if status else "another process"
            raise BadStudy(store.name, f"is being worked on by {where}; stop it first")
        one.lock().release()


def remove_study(store: StudyStore) -> None:
    """Delete a study with all that belongs to it alone. Raises `BadStudy` while somebody works on it."""
    refuse_busy(store)
    for folder in folders_of(store):
        _delete(folder)


def refuse_needed(home: Path, name: str) -> None:
    """Raises `BadData` while studies need a dataset, with their names."""
    if needing := studies_with(home, name):
        raise BadData(
            name,
            f"is needed by {len(needing)} {'study' if len(needing) == 1 else 'studies'}: {', '.join(needing)}; "
            "`orchestrator studies remove NAME` removes one",
        )


def remove_dataset(home: Path, name: str) -> None:
    """Delete a dataset. Raises `BadData` while studies need it."""
    refuse_needed(home, name)
    _delete(load_dataset(home, name).folder)


def studies_with(home: Path, dataset: str) -> list[str]:
    """Names of the studies that train on a dataset, or score their champion on it."""
    found = []
    for store in list_studies(home):
        try:
            made_of = store.record().made_of
        except UserError:  # whoever cannot read it cannot say that it needs nothing
            found.append(store.name)
            continue
        if dataset in made_of.datasets or dataset in made_of.unseen:
            found.append(store.name)
    return found


def freeable(home: Path, cache: Path) -> list[Freeable]:
    """What can be deleted and is made again when it is needed, largest first."""
    found = [
        *_of_cache(home, cache),
        *_of_studies(home),
        *_derived(home),
        *_ray_sessions(),
        *_leftovers(home),
    ]
    return sorted((one for one in found if one.num_bytes), key=lambda one: -one.num_bytes)


def _of_cache(home: Path, cache: Path) -> Iterator[Freeable]:
    for entry in cache_entries(cache, list_datasets(home)):
        if entry.dataset is None and not entry.in_use:
            kind = f"images of {entry.size} pixels" if entry.size.isdigit() else entry.size
            yield Freeable(
                f"cached {kind} of a dataset that is gone", entry.files or (entry.folder,), entry.num_bytes
            )


def _of_studies(home: Path) -> Iterator[Freeable]:
    for store in [one for study in list_studies(home) for one in (study, *inner_homes(study))]:
        if not _is_free(store):
            continue
        ray = (store.folder / "tune", store.folder / "train")
        yield Freeable(f"Ray's folders of study {store.name}", ray, size_of(*ray))
        status = read_status(store.status_file)
        if store.champion_file.exists() and status is not None and status.state == "ended":
            running = store.ledger.running
            yield Freeable(
                f"checkpoints of study {store.name}, which has ended", (running,), size_of(running)
            )


def _is_free(store: StudyStore) -> bool:
    try:
        refuse_busy(store)
    except BadStudy:
        return False
    return True


def _derived(home: Path) -> Iterator[Freeable]:
    known = {one.name for study in list_studies(home) for one in (study, *inner_homes(study))}
    for folder in (home / "derived").glob("[!.]*"):
        whose = "study" if folder.name in known else "removed study"
        yield Freeable(
            f"scores computed from the records of {whose} {folder.name}", (folder,), size_of(folder)
        )


def _ray_sessions() -> Iterator[Freeable]:
    for folder in temp_folder().glob("session_*"):
        started_by = SESSION.fullmatch(folder.name)
        if started_by and not folder.is_symlink() and not _lives(int(started_by[1])):
            yield Freeable(f"Ray's logs, {folder.name}", (folder,), size_of(folder))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _leftovers(home: Path) -> Iterator[Freeable]:
    for folder in [*(home / "studies").glob(f"{REMOVED}*"), *(home / "datasets").glob(f"{REMOVED}*")]:
        yield Freeable("removed, but not to its end", (folder,), size_of(folder))


def _delete(folder: Path) -> None:
    """Rename first: whoever looks meanwhile finds all of it, or nothing."""
    away = folder.with_name(f"{REMOVED}{folder.name}-{time.time_ns()}")
    folder.rename(away)
    shutil.rmtree(away)
