"""Cases and datasets on disk.

home/datasets/NAME holds images and plain masks as their original bytes (with EXIF tags, which all readers follow),
interpreted masks as black and white BMPs, and dataset.json; it is created by one rename, completely or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from orchestrator.common.errors import BadData
from orchestrator.common.names import hint
from orchestrator.common.stored_json import Unreadable, as_kind, read_json
from orchestrator.common.user_documents import shown
from orchestrator.data.unusable import Bad

MANIFEST = "dataset.json"
FORMAT = 1  # of dataset.json


@dataclass(frozen=True)
class Case:
    """One image with its mask."""

    id: str  # "<dataset>/<stem>"
    dataset: str
    group: str  # a video, a patient; cases of one group are never on both sides of a split
    center: str | None
    image: Path
    mask: Path
    height: int  # pixels, upright
    width: int
    polyp_fraction: float  # share of the frame, 0 to 1
    sha256: str  # of the bytes of both files
    image_sha256: str = ""  # of one file; "" in datasets of earlier versions
    mask_sha256: str = ""
    classes: tuple[str, ...] = ()  # of its polyps, by --mask-classes
    part: str = ""  # of a published archive with several, such as TrainDataset or val

    @property
    def class_name(self) -> str:
        """Classes in one string, such as neoplastic + non-neoplastic."""
        return " + ".join(self.classes)


@dataclass(frozen=True)
class Dataset:
    """A named, immutable collection of cases; its fingerprint follows from its content alone."""

    name: str
    folder: Path
    cases: tuple[Case, ...]  # sorted by id
    fingerprint: str  # 32 hex digits
    groups_known: bool
    layout: str = ""  # description of the published archive it was recognised as
    # One sentence for everything that was converted or is unknown.
    remarks: tuple[str, ...] = ()
    skipped: tuple[Bad, ...] = ()  # unusable files, which the user chose to leave out


def load_dataset(home: Path, name: str) -> Dataset:
    """The dataset with this name; BadData lists the known names if there is none."""
    (dataset,) = load_datasets(home, [name])
    return dataset


def load_datasets(home: Path, names: Sequence[str]) -> tuple[Dataset, ...]:
    """The datasets with these names, in this order; one BadData lists all unknown names."""
    known = known_names(home)
    listed = ", ".join(known) or "none yet; add one first"
    problems = [
        f"no dataset is named {name!r}; {hint(name, known)}known: {listed}"
        for name in names
        if name not in known
    ]
    if problems:
        raise BadData(str(home), problems)
    return tuple(_read_manifest(_datasets_folder(home) / name) for name in names)


def list_datasets(home: Path) -> tuple[Dataset, ...]:
    """All complete datasets, sorted by name."""
    return load_datasets(home, known_names(home))


def _datasets_folder(home: Path) -> Path:
    return home.expanduser().resolve() / "datasets"


def known_names(home: Path) -> list[str]:
    """Names of all complete datasets, sorted."""
    return sorted(path.parent.name for path in _datasets_folder(home).glob(f"[!.]*/{MANIFEST}"))


class _Manifest(BaseModel):
    """Content of dataset.json."""

    format: int
    name: str
    fingerprint: str
    groups_known: bool
    layout: str = ""  # datasets of 0.1 have none
    remarks: tuple[str, ...] = ()
    skipped: tuple[Bad, ...] = ()
    cases: list[dict[str, Any]]


def _read_manifest(folder: Path) -> Dataset:
    """The dataset in a folder; `BadData` if dataset.json is damaged or of another version."""
    file = folder / MANIFEST
    remedy = (
        f"restore it from a copy, or move {folder} away and add the dataset again: images and masks are in it"
    )
    found: _Manifest = read_json(file, _Manifest, remedy, BadData)
    if found.format != FORMAT:
        raise BadData(str(folder), f"was written in format {found.format}, expected {FORMAT}; add it again")
    try:
        cases = as_kind([_entry(folder, found.name, entry) for entry in found.cases], tuple[Case, ...])
    except Unreadable as error:
        raise BadData(str(file), f"{error}; {remedy}") from error
    ids = {case.id for case in cases}
    if not cases or len(ids) < len(cases):
        wrong = "lists a case more than once" if cases else "lists no case"
        raise BadData(str(file), f"{wrong}; {remedy}")
    return Dataset(
        found.name,
        folder,
        cases,
        found.fingerprint,
        found.groups_known,
        found.layout,
        found.remarks,
        found.skipped,
    )


def _entry(folder: Path, dataset: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a case with full paths; `Unreadable` for a path outside the folder, or impossible values."""
    files: dict[str, Path] = {}
    for kind in ("image", "mask"):
        name = entry.get(kind)
        if not isinstance(name, str) or "\0" in name or name in ("", ".", "..") or Path(name).name != name:
            raise Unreadable(f"expected the name of a file in {kind}s/, found {shown(name)}")
        files[kind] = folder / f"{kind}s" / name
    sizes = [entry.get("height"), entry.get("width")]
    share = entry.get("polyp_fraction")
    if not all(isinstance(size, int) and size > 0 for size in sizes) or not isinstance(share, int | float):
        raise Unreadable(f"{shown(entry.get('id'))}: expected height, width and polyp_fraction")
    if not 0 <= share <= 1:
        raise Unreadable(f"{shown(entry.get('id'))}: expected a polyp_fraction from 0 to 1, found {share}")
    return {**entry, **files, "dataset": dataset}
