"""Records that finished fits leave on disk, read and checked: a damaged record counts as missing.

A record names its files with their sizes and digests, and holds a digest of itself, so that one that was cut short or
edited, and still reads, is noticed, too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from orchestrator.common.stored_json import Unreadable, as_kind, parse_json, read_arrays, sha256_of
from orchestrator.training.recipe import FitSpec

RECORD, HISTOGRAMS, EXAMPLES, FOLLOWED, WEIGHTS = (
    "record.json",
    "histograms.npz",
    "examples.npz",
    "followed.npz",
    "weights.safetensors",
)
OWN = "sha256"  # key of a record: the digest of all else in it
Marks = tuple[tuple[str, int, int], ...]  # name, bytes and time of change of every file of a folder


class Companion(BaseModel):
    """A file next to a record, as it was when it was written."""

    num_bytes: int
    sha256: str


class StoredFit(BaseModel):
    """`record.json` of a fit."""

    fit_id: str
    spec: FitSpec
    curves: list[dict[str, int | float]]
    best_epoch: int
    seconds: float
    device: str
    world_size: int
    case_ids: list[str]
    versions: dict[str, str]
    inference_ms: float | None = None
    files: dict[str, Companion] = {}  # none in records of earlier versions
    digest: str | None = Field(None, alias="sha256")  # of all else in the record; none in earlier versions


class StoredScores(BaseModel):
    """`record.json` of scores outside the search."""

    fit_id: str
    name: str
    case_ids: list[str]
    files: dict[str, Companion] = {}


@dataclass(frozen=True)
class FitRecord:
    """One finished fit. Its arrays are read from the folder when they are first asked for."""

    fit_id: str
    spec: FitSpec
    folder: Path
    curves: tuple[dict[str, float], ...]  # one row an epoch
    best_epoch: int
    seconds: float  # training and validation, over all resumes
    device: str
    world_size: int
    case_ids: tuple[str, ...]  # validation cases, in the order of the histograms
    versions: dict[str, str]
    inference_ms: float | None = None  # of one image, on the device of the fit, where the study asked for it
    weights_sha256: str | None = None  # None in records of earlier versions
    digest: str | None = None  # SHA-256 of the record and of its files; None in records of earlier versions

    @cached_property
    def histograms(self) -> np.ndarray:
        """(N, 2, 256) uint32 of the validation cases, at the masks' own sizes. Raises `Unreadable`."""
        return _histograms(self.folder, len(self.case_ids))

    @cached_property
    def examples(self) -> dict[str, np.ndarray]:
        """Case id -> probability bins uint8 (S, S) of a few cases to look at, worst first. Raises `Unreadable`."""
        return read_arrays(self.folder / EXAMPLES)

    @cached_property
    def followed(self) -> dict[str, np.ndarray]:
        """Case id -> probability bins uint8 (E, S, S) at the epochs that "epochs" names, int (E,), from 0.

        Empty in records of earlier versions. Raises `Unreadable`.
        """
        path = self.folder / FOLLOWED
        return read_arrays(path) if path.exists() else {}

    @property
    def micro_batch(self) -> int | None:
        """The fewest images that a worker took at a time; None in records that lack it."""
        return min((int(row["micro_batch"]) for row in self.curves if "micro_batch" in row), default=None)

    @property
    def weights(self) -> Path:
        """The weights of the best epoch; pruned for trials that cannot be champion any more."""
        return self.folder / WEIGHTS


@dataclass(frozen=True, slots=True)
class FitSummary:
    """What a running search keeps in memory of every finished fit."""

    fit_id: str
    val_dice: array[float]  # epoch by epoch; empty where nothing was validated, as of a refit
    num_epochs: int  # of its schedule; it may have ended earlier
    epochs: int  # trained
    seconds: float  # training and validation, over all resumes
    world_size: int
    is_validated: bool


@dataclass(frozen=True)
class ScoreRecord:
    """One finished network, scored on cases that neither training nor selection saw."""

    fit_id: str  # or of several networks, as `scored_as` names them
    name: str  # "test", or the unseen dataset's
    case_ids: tuple[str, ...]
    histograms: np.ndarray  # (N, 2, 256)


def scored_as(fit_ids: Sequence[str]) -> str:
    """Name of the mean of several networks, from the ids of their fits; a single network keeps its own id."""
    if len(fit_ids) == 1:
        return fit_ids[0]
    return hashlib.sha256("\n".join(fit_ids).encode()).hexdigest()[:20]


def summary_of(fit: StoredFit | FitRecord) -> FitSummary:
    is_validated = bool(fit.case_ids)
    return FitSummary(
        fit_id=fit.fit_id,
        val_dice=array("d", (row["val_dice"] for row in fit.curves) if is_validated else ()),
        num_epochs=fit.spec.recipe.epochs,
        epochs=len(fit.curves),
        seconds=fit.seconds,
        world_size=fit.world_size,
        is_validated=is_validated,
    )


def read_stored(folder: Path, *, is_verified: bool = False) -> StoredFit:
    """The record of a fit without its arrays, of which the digest `is_verified` already. Raises `Unreadable`."""
    stored: StoredFit = _parse(folder, StoredFit, is_verified=is_verified)
    if stored.fit_id != folder.name:
        raise Unreadable(f"{RECORD} is that of fit {stored.fit_id}")
    if stored.case_ids and not {*stored.case_ids} <= {*stored.spec.val, *stored.spec.train}:
        raise Unreadable(f"{RECORD} scores other cases than those that its fit validates")
    return stored


def read_fit(folder: Path, *, is_verified: bool = False) -> FitRecord:
    """The record of a fit. Raises `Unreadable` where any of its files is not what was written; weights may be gone.

    `is_verified`: these very files were read to their last byte before. Digests are not computed again, and arrays are
    read again only where they are asked for.
    """
    stored = read_stored(folder, is_verified=is_verified)
    _refuse_resized(folder, stored.files)
    weights = stored.files.get(WEIGHTS)
    record = FitRecord(
        fit_id=stored.fit_id,
        spec=stored.spec,
        folder=folder,
        curves=tuple(stored.curves),
        best_epoch=stored.best_epoch,
        seconds=stored.seconds,
        device=stored.device,
        world_size=stored.world_size,
        case_ids=tuple(stored.case_ids),
        versions=stored.versions,
        inference_ms=stored.inference_ms,
        weights_sha256=weights.sha256 if weights is not None else None,
        digest=stored.digest,
    )
    if not is_verified:
        assert record.histograms is not None and record.examples is not None  # read, and kept
    return record


def read_scores(folder: Path) -> ScoreRecord:
    """Scores outside the search. Raises `Unreadable` where a file is not what was written."""
    stored: StoredScores = _parse(folder, StoredScores)
    _refuse_resized(folder, stored.files)
    case_ids = tuple(stored.case_ids)
    return ScoreRecord(stored.fit_id, stored.name, case_ids, _histograms(folder, len(case_ids)))


def as_files(record: Mapping[str, Any], companions: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a record, by name."""
    files = {
        name: {"num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in companions.items()
    }
    content = {**record, "files": files}
    return {RECORD: json.dumps({**content, OWN: _digest(content)}, indent=1).encode(), **companions}


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of what a record says, however its JSON is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Content of an npz file with these arrays."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]  # stubs
    return file.getvalue()


@dataclass(frozen=True, slots=True)
class Checked:
    """A record as its files are: damaged, or sound."""

    damage: str | None  # why it does not read
    summary: FitSummary | None = None  # None of scores outside the search


def check(folder: Path) -> Checked | None:
    """Whether a record reads, and its summary; None where there is none. Files are read once as they are."""
    return _checked(folder, marks) if (marks := marks_of(folder)) is not None else None


def damage(folder: Path) -> str | None:
    """Why a record does not read; None where it does, or where there is none."""
    return found.damage if (found := check(folder)) is not None else None


def is_sound(folder: Path) -> bool:
    """Whether there is a record, and it reads."""
    return (found := check(folder)) is not None and found.damage is None


def read_checked(folder: Path) -> FitRecord:
    """The record of `read_fit`; that of a fit that was checked just before is not read again. Raises `Unreadable`."""
    if (marks := marks_of(folder)) is None:
        raise Unreadable(f"{RECORD} is gone")
    return _read(folder, marks)


def weights_damage(record: FitRecord) -> str | None:
    """Why the weights of a fit are not those that were written, byte by byte; None where they are, or were pruned."""
    expected = record.weights_sha256
    if expected is None or not record.weights.exists() or (found := sha256_of(record.weights)) == expected:
        return None
    return f"{WEIGHTS} is not what was written: expected SHA-256 {expected[:12]}, found {found[:12]}"


@lru_cache(maxsize=16)  # a trial's fits are checked one after another, then read
def _read(folder: Path, marks: Marks) -> FitRecord:
    return read_fit(folder)


@lru_cache(maxsize=1_000_000)
def _checked(folder: Path, marks: Marks) -> Checked:
    try:
        if folder.parent.name != "scores":
            return Checked(None, summary_of(_read(folder, marks)))
        read_scores(folder)
    except Unreadable as error:
        return Checked(str(error))
    return Checked(None)


def marks_of(folder: Path) -> Marks | None:
    """Name, bytes and time of change of every file of a record, by name; None where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            stats = [(entry.name, entry.stat()) for entry in entries]
    except FileNotFoundError:
        return None
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


def _parse(folder: Path, kind: Any, *, is_verified: bool = False) -> Any:
    try:
        content = parse_json(folder / RECORD, dict[str, Any])
        own = content.pop(OWN, None)  # records of earlier versions have none
        if own is not None and not is_verified and own != _digest(content):
            raise Unreadable("was edited: it does not have the digest that it names")
        return as_kind({**content, OWN: own}, kind)
    except FileNotFoundError:
        raise Unreadable(f"{RECORD} is gone") from None
    except Unreadable as error:
        raise Unreadable(f"{RECORD} {error}") from error


def _refuse_resized(folder: Path, files: Mapping[str, Companion]) -> None:
    for name, companion in files.items():
        path = folder / name
        if name == WEIGHTS and not path.exists():
            continue
        if not path.exists():
            raise Unreadable(f"{name} is gone")
        if (size := path.stat().st_size) != companion.num_bytes:
            raise Unreadable(f"{name} has {size} bytes, {companion.num_bytes} were written")


def _histograms(folder: Path, num_cases: int) -> np.ndarray:
    arrays = read_arrays(folder / HISTOGRAMS)
    found = arrays.get("histograms")
    if found is None or found.shape != (num_cases, 2, 256):
        shape = None if found is None else found.shape
        raise Unreadable(f"{HISTOGRAMS} holds {shape}, expected {(num_cases, 2, 256)}")
    return found
