"""Detection of changed files: whether a dataset still consists of the files that were imported.

Checked before a dataset is read. A file with the size, times and inode of its last check is not read again; any other
is hashed. Results are stored per node and folder, below the cache: another node may see other bytes under the same
path.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from orchestrator.common.cpus import pooled
from orchestrator.common.display import Progress
from orchestrator.common.errors import BadData, Mistakes
from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import sha256_of
from orchestrator.data.cases import Case, Dataset
from orchestrator.data.importing.verify import NUM_THREADS
from orchestrator.data.masks.inspection import pair_sha256

Stamp = tuple[int, int, int, int]  # bytes, mtime and ctime in ns, inode
MOST_NAMED = 10  # problems in one message

_STAMPS: TypeAdapter[dict[str, Stamp]] = TypeAdapter(dict[str, Stamp])


def refuse_changed(datasets: Iterable[Dataset], cache: Path, on_progress: Progress | None = None) -> None:
    """Raise `BadData` with all missing files, and files that differ from those imported, of all datasets."""
    mistakes = Mistakes()
    for dataset in datasets:
        with mistakes.noted():
            _refuse_changed(dataset, cache, on_progress)
    mistakes.raise_all()


def _refuse_changed(dataset: Dataset, cache: Path, on_progress: Progress | None) -> None:
    stamps, file = _stamps(dataset), _index(dataset, cache)
    if not _unknown(dataset.cases, stamps, _read(file)):
        return
    with ExitStack() as alone:
        with suppress(OSError):  # a read-only cache stores nothing, so waiting for another process is useless
            file.parent.mkdir(parents=True, exist_ok=True)
            alone.enter_context(FileLock(file.with_suffix(".lock")))
        sound = _read(file)
        unknown = _unknown(dataset.cases, stamps, sound)
        problems = []
        with pooled(ThreadPoolExecutor(NUM_THREADS)) as pool:
            for done, (case, found) in enumerate(
                zip(unknown, pool.map(_problems, unknown), strict=True), start=1
            ):
                problems += found
                sound |= {} if found else {name: stamps[name] for name in _names(case)}
                if on_progress:
                    on_progress(done, len(unknown))
        with suppress(OSError):
            kept = {name: stamp for name, stamp in sound.items() if stamps.get(name) == stamp}
            write_atomically(file, json.dumps(kept).encode(), sync=False)
    if problems:
        raise BadData(dataset.name, _with_remedy(dataset, problems))


def _with_remedy(dataset: Dataset, problems: Sequence[str]) -> list[str]:
    more = len(problems) - MOST_NAMED
    *first, last = [*problems[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]
    remedy = (
        f"restore the imported files, or remove {dataset.folder} and add the dataset again; "
        f"`orchestrator data check {dataset.name}` reads every file"
    )
    return [*first, f"{last}; {remedy}"]


def _problems(case: Case) -> list[str]:
    """Problems of the files of a case, by their bytes."""
    found: dict[str, str] = {}
    problems = []
    for name, path in zip(_names(case), (case.image, case.mask), strict=True):
        try:
            found[name] = sha256_of(path)
        except FileNotFoundError:
            problems.append(f"{name}: is missing")
        except OSError as error:
            problems.append(f"{name}: cannot be read: {error.strerror}")
    if problems or pair_sha256(*found.values()) == case.sha256:
        return problems
    expected = dict(zip(_names(case), (case.image_sha256, case.mask_sha256), strict=True))
    if not all(expected.values()):  # imported before digests of single files were stored
        return [
            f"{' or '.join(found)}: not the bytes that were imported: expected SHA-256 {case.sha256[:12]} of both, "
            f"found {pair_sha256(*found.values())[:12]}"
        ]
    return [
        f"{name}: not the bytes that were imported: expected SHA-256 {expected[name][:12]}, found {digest[:12]}"
        for name, digest in found.items()
        if digest != expected[name]
    ]


def _names(case: Case) -> tuple[str, str]:
    return f"images/{case.image.name}", f"masks/{case.mask.name}"


def _stamps(dataset: Dataset) -> dict[str, Stamp]:
    """Stamps of all existing files, from one scan of each folder without opening files."""
    found = {}
    for folder in ("images", "masks"):
        with suppress(FileNotFoundError), os.scandir(dataset.folder / folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    stat = entry.stat()
                    stamp = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
                    found[f"{folder}/{entry.name}"] = stamp
    return found


def _unknown(cases: Iterable[Case], stamps: Mapping[str, Stamp], sound: Mapping[str, Stamp]) -> list[Case]:
    """Cases with a missing file, or one that was not checked in its current state."""
    return [
        case
        for case in cases
        if any(name not in stamps or sound.get(name) != stamps[name] for name in _names(case))
    ]


def _index(dataset: Dataset, cache: Path) -> Path:
    """The file with results of earlier checks, for this dataset in this folder on this node."""
    where = hashlib.sha256(f"{platform.node()}\n{dataset.folder}".encode()).hexdigest()[:12]
    return cache / "intact" / f"{dataset.fingerprint}-{where}.json"


def _read(file: Path) -> dict[str, Stamp]:
    """Stamps from earlier checks; empty if the file cannot be parsed, so that all is checked again."""
    try:
        return _STAMPS.validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return {}
