"""Content of a home on disk: studies with their sizes, and files that can be made again.

Nothing that a running study, or a study that can be resumed, still needs is ever offered for removal.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestrator.common.errors import BadData, BadMachine, BadStudy, UserError
from orchestrator.data.cache.prune import cache_entries, remove_entry
from orchestrator.data.cases import list_datasets, load_dataset
from orchestrator.ray_cluster.private_ray import temp_folder
from orchestrator.search.records.status import is_alive, read_status
from orchestrator.search.store.derived import stale_parts
from orchestrator.search.store.study_store import StudyStore, list_studies, whole_study
from orchestrator.selection.nested import inner_stores

SESSION = re.compile(r"session_.*_(\d+)")  # of Ray, with the process that started it
STILL_S = 3600.0  # a Ray that runs writes its logs several times a minute
REMOVED = ".removed-"  # begins the name of a folder that is being deleted


@dataclass(frozen=True)
class Freeable:
    """A folder, or files, that can be deleted: they are made again when they are needed."""

    what: str
    paths: tuple[Path, ...]
    num_bytes: int
    delete: Callable[[], object]  # deletes nothing that is in use by then

    def remove(self) -> int:
        """Delete; returns bytes freed: fewer than `num_bytes` if some is in use or cannot be deleted."""
        self.delete()
        return self.num_bytes - size_of(*self.paths)


def size_of(*paths: Path) -> int:
    """Bytes of files and of all files in folders, as far as they still exist."""
    total = 0
    for path in paths:
        files = path.rglob("*") if path.is_dir() else [path]
        for file in files:
            with suppress(FileNotFoundError):
                total += file.lstat().st_size if file.is_symlink() or file.is_file() else 0
    return total


def folders_of(store: StudyStore) -> tuple[Path, ...]:
    """Folders of a study alone: its computed scores, those of its outer folds, and its own, last."""
    studies = [*inner_stores(store), store]
    folders = [*(one.home / "derived" / one.name for one in studies), *(one.folder for one in studies)]
    return tuple(folder for folder in folders if folder.exists())


def refuse_busy(store: StudyStore) -> None:
    """Raises `BadStudy` while a process works on the study, on this machine or another one."""
    with _alone(store):
        pass


@contextmanager
def _alone(store: StudyStore) -> Iterator[None]:
    """Context in which no other process can begin to work on a study; `BadStudy` where one does."""
    with ExitStack() as locks:
        for one in (store, *inner_stores(store)):
            if is_alive(one.status_file):
                status = read_status(one.status_file)
                where = f"process {status.pid} on {status.host}" if status else "another process"
                raise BadStudy(store.name, f"is being worked on by {where}; stop it first")
            locks.enter_context(one.lock())
        yield


def refuse_removal(store: StudyStore) -> None:
    """Raises `BadStudy` for a study that is in use, a part of another one, or kept outside of its home."""
    whole = whole_study(store.home, store.name)
    if whole != store.name:
        raise BadStudy(
            store.name, f"is an outer fold of study {whole}, which is removed as a whole: remove that"
        )
    if links := _links(folders_of(store)):
        raise BadStudy(store.name, links)
    refuse_busy(store)


def remove_study(store: StudyStore) -> None:
    """Delete a study with all that belongs to it alone. Raises `BadStudy` where `refuse_removal` does."""
    refuse_removal(store)
    with _alone(store):
        away = [_set_aside(folder) for folder in folders_of(store)]
    for folder in away:
        _delete(folder)


def refuse_needed(home: Path, name: str, cache: Path) -> None:
    """Raises `BadData` while studies need a dataset, with their names, while its images are read, and for a link."""
    dataset, problems = load_dataset(home, name), _links([home / "datasets" / name])
    if needing := studies_with(home, name):
        problems.append(
            f"is needed by {len(needing)} {'study' if len(needing) == 1 else 'studies'}: {', '.join(needing)}; "
            "`orchestrator studies remove NAME` removes one"
        )
    if any(one.in_use for one in cache_entries(cache, [dataset]) if one.dataset == name):
        problems.append("is being read by a search or a fit, which has its cached images open; stop it first")
    if problems:
        raise BadData(name, problems)


def remove_dataset(home: Path, name: str, cache: Path) -> None:
    """Delete a dataset. Raises `BadData` where `refuse_needed` does."""
    refuse_needed(home, name, cache)
    _delete(_set_aside(load_dataset(home, name).folder))


def _links(folders: Iterable[Path]) -> list[str]:
    """Why folders are not deleted: files of others may be where a link leads to."""
    return [
        f"{folder} is a link to {folder.resolve()}, and nothing outside of a home is deleted; delete the link alone, "
        f"`rm {shlex.quote(str(folder))}`, and what it leads to if nothing else needs that"
        for folder in folders
        if folder.is_symlink()
    ]


def studies_with(home: Path, dataset: str) -> list[str]:
    """Names of the studies that train on a dataset, or score their champion on it."""
    found = []
    for store in list_studies(home):
        try:
            made_of = store.record().made_of
        except UserError:  # unreadable: it may need any of it
            found.append(store.name)
            continue
        if dataset in made_of.datasets or dataset in made_of.unseen:
            found.append(store.name)
    return found


def freeable(home: Path, cache: Path) -> list[Freeable]:
    """Files that can be deleted, as they are made again when needed, largest first."""
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
                f"cached {kind} of a dataset that is not in this home",
                entry.files or (entry.folder,),
                entry.num_bytes,
                partial(remove_entry, entry),
            )


def _of_studies(home: Path) -> Iterator[Freeable]:
    for store, derived in _free_studies(home):
        ray = (store.folder / "tune", store.folder / "train")
        yield _of_study(f"Ray's folders of study {store.name}", store, *ray)
        status = read_status(store.status_file)
        if store.champion_file.exists() and status is not None and status.state == "ended":
            yield _of_study(
                f"checkpoints of study {store.name}, which has ended", store, store.ledger.running
            )
        yield _of_study(f"scores computed from the records of study {store.name}", store, derived)


def _free_studies(home: Path) -> Iterator[tuple[StudyStore, Path]]:
    """Studies that no process works on, each outer fold with the whole, and folders of computed scores."""
    for whole in list_studies(home):
        with suppress(BadStudy):
            refuse_busy(whole)
            for store in (whole, *inner_stores(whole)):
                yield store, home / "derived" / store.name


def _of_study(what: str, store: StudyStore, *folders: Path) -> Freeable:
    """Folders of a study, deleted if no process works on the study by then; links are left out."""
    own = tuple(folder for folder in folders if folder.is_dir() and not folder.is_symlink())

    def delete() -> None:
        with suppress(BadStudy), _alone(store):
            for folder in own:
                _delete_what_can_be(folder)

    return Freeable(what, own, size_of(*own), delete)


def _derived(home: Path) -> Iterator[Freeable]:
    known = {one.name for study in list_studies(home) for one in (study, *inner_stores(study))}
    for folder in (home / "derived").glob("[!.]*"):
        if folder.name not in known and not folder.is_symlink():
            yield _of_nobody(f"scores computed from the records of removed study {folder.name}", folder)


def prune_derived(home: Path) -> list[Freeable]:
    """Delete computed scores that nobody finds again, and return what was deleted.

    They are of studies that were removed, of studies whose datasets are not in this home as they were, and of other
    versions of the code. A study that is being worked on may lose them too: they are computed again.
    """
    return [one for one in (*_derived(home), *_stale(home)) if one.num_bytes and one.remove()]


def _stale(home: Path) -> Iterator[Freeable]:
    there = {one.name: one.fingerprint for one in list_datasets(home)}
    for study in (one for whole in list_studies(home) for one in (whole, *inner_stores(whole))):
        folder = home / "derived" / study.name
        if folder.is_symlink():
            continue
        if why := _lacks_data(study, there):
            yield _of_nobody(f"scores computed from the records of study {study.name}, {why}", folder)
        elif parts := stale_parts(folder):
            what = f"scores of study {study.name} that another version of the code computed"
            yield _of_nobody(what, *parts)


def _lacks_data(store: StudyStore, there: Mapping[str, str]) -> str | None:
    """Which datasets of a study are not `there` (name -> fingerprint); None where all are, or no record says."""
    try:
        wanted = (made_of := store.record().made_of).datasets | made_of.unseen
    except UserError:  # unreadable: it may need any of it
        return None
    gone = [name for name, fingerprint in wanted.items() if there.get(name) != fingerprint]
    return f"whose data is gone or has changed ({', '.join(gone)})" if gone else None


def _ray_sessions() -> Iterator[Freeable]:
    """Sessions of Ray whose processes are gone. One of another container has no process here, but writes its logs."""
    for folder in temp_folder().glob("session_*"):
        started_by = SESSION.fullmatch(folder.name)
        if started_by and not folder.is_symlink() and not _lives(int(started_by[1])) and _is_still(folder):
            yield _of_nobody(f"Ray's logs, {folder.name}", folder)


def _is_still(folder: Path) -> bool:
    """Whether nothing in a folder has changed for a while."""
    newest = 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):
            newest = max(newest, path.lstat().st_mtime)
    return time.time() - newest > STILL_S


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _leftovers(home: Path) -> Iterator[Freeable]:
    for kind in ("studies", "datasets", "derived"):
        for folder in (home / kind).glob(f"{REMOVED}*"):
            yield _of_nobody("removed, but not completely", folder)


def _of_nobody(what: str, *paths: Path) -> Freeable:
    def delete() -> None:
        for path in paths:
            _delete_what_can_be(path)

    return Freeable(what, paths, size_of(*paths), delete)


def _delete_what_can_be(path: Path) -> None:
    """Delete a file or folder as far as possible; the size of the rest says what is left."""
    with suppress(OSError):
        if path.is_symlink() or path.is_file():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _set_aside(folder: Path) -> Path:
    """Rename a folder before it is deleted, so that a reader finds all of it, or nothing."""
    away = folder.with_name(f"{REMOVED}{folder.name[:200]}-{time.time_ns()}")
    folder.rename(away)
    return away


def _delete(away: Path) -> None:
    """Delete a folder that was set aside. Raises `BadMachine` where files cannot be deleted."""
    try:
        shutil.rmtree(away)
    except FileNotFoundError:  # `clean` deletes it at the same time
        _delete_what_can_be(away)
    except OSError as refused:
        raise BadMachine(
            str(away),
            f"is removed, but not all of it can be deleted: {refused}; `orchestrator clean` tries again",
        ) from refused
