"""A folder with images/ and masks/ -> pairs by stem; a CSV -> their groups and centers."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.data.images import EXTENSIONS
from orchestrator.errors import BadData

LITTER = ("thumbs.db", "desktop.ini")  # left behind by file managers, as are names with a leading dot


@dataclass(frozen=True)
class Pair:
    """The files of one case in the folder that the user named."""

    stem: str
    image: Path
    mask: Path


def find_pairs(source: Path) -> tuple[list[Pair], list[str]]:
    """Pairs sorted by stem, and what is wrong with the files that make none."""
    images, image_problems = _by_stem(_subfolder(source, ("images", "image")))
    masks, mask_problems = _by_stem(_subfolder(source, ("masks", "mask")))
    problems = image_problems + mask_problems
    problems += [
        f"{_short(images[stem])}: no mask has this stem" for stem in sorted(images.keys() - masks.keys())
    ]
    problems += [
        f"{_short(masks[stem])}: no image has this stem" for stem in sorted(masks.keys() - images.keys())
    ]
    pairs = [Pair(stem, images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())]
    if not pairs and not problems:
        problems.append("expected images with masks, found no files")
    return pairs, problems


def _subfolder(source: Path, names: Sequence[str]) -> Path:
    if not source.is_dir():
        found = "a file; unpack archives first" if source.exists() else "nothing there"
        raise BadData(str(source), f"expected a folder with images/ and masks/, found {found}")
    folders = [path for path in sorted(source.iterdir()) if path.is_dir() and path.name.lower() in names]
    if len(folders) != 1:
        found = ", ".join(sorted(path.name for path in source.iterdir())[:12]) or "an empty folder"
        raise BadData(str(source), f"expected one folder named {' or '.join(names)}, found {found}")
    return folders[0]


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[str]]:
    files: dict[str, Path] = {}
    problems = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.lower() in LITTER:
            continue
        if not path.is_file() or path.suffix.lower() not in EXTENSIONS:
            problems.append(f"{_short(path)!s}: expected a file ending in {' '.join(EXTENSIONS)}")
        elif not path.stem.isprintable():
            problems.append(f"{_short(path)!a}: expected a printable name")
        elif path.stem in files:
            problems.append(f"{_short(path)}: {files[path.stem].name} has the same stem; keep one")
        else:
            files[path.stem] = path
    return files, problems


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@dataclass(frozen=True)
class Membership:
    """Where a case comes from, as far as the CSV says."""

    group: str = ""
    center: str = ""


def read_groups(
    path: Path, stems: Collection[str], group_column: str, center_column: str
) -> tuple[dict[str, Membership], list[str]]:
    """Group and center by stem, and what is wrong; column `name` holds stems, centers are optional."""
    where = path.name
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return {}, [f"{where}: expected a CSV file in UTF-8, found {error}"]
    missing = [column for column in ("name", group_column) if column not in columns]
    if missing:
        return {}, [
            f"{where}: expected a column {column!r}, found {', '.join(columns)}" for column in missing
        ]
    members: dict[str, Membership] = {}
    repeated = []
    for row in rows:
        name = row["name"] or ""
        if name in members:
            repeated.append(name)
        members[name] = Membership((row[group_column] or "").strip(), (row.get(center_column) or "").strip())
    problems = [
        f"{where}: {what}: {_some(names)}"
        for what, names in (
            ("names given more than once", repeated),
            ("names without a case", sorted(members.keys() - set(stems))),
            ("cases without a row", sorted(set(stems) - members.keys())),
        )
        if names
    ]
    return members, problems


def _some(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    rest = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(repr(name) for name in names[:10]) + rest
