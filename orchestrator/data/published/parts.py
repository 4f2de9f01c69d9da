"""Published parts of a dataset: which images its authors trained on, validated and tested on."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from orchestrator.common.display import counted

Role = Literal["train", "val", "test", ""]

WORDS: dict[Role, frozenset[str]] = {
    "train": frozenset({"train", "training", "tr"}),
    "val": frozenset({"val", "valid", "validation", "dev"}),
    "test": frozenset({"test", "testing", "ts"}),
}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
LISTS = {"train", "val", "valid", "validation", "test"}  # stems of text files with a name per line
PLACES = ("", "ImageSets/Segmentation")  # of such files, below a folder that contains the images
MOST_BYTES = 16 << 20  # of a list


def role_of(part: str) -> Role:
    """Use of a part by the last of its names that gives one: TestHardDataset/Unseen is test; "" for TrainValid."""
    for name in reversed(part.split("/")):
        words = {word.lower() for word in WORD.findall(name)}
        roles: list[Role] = [role for role, known in WORDS.items() if known & words]
        if roles:
            return roles[0] if len(roles) == 1 else ""
    return ""


def lists_among(files: Mapping[str, Sequence[Path]], images: Iterable[str]) -> list[Path]:
    """train.txt, val.txt and test.txt in the folders that contain these folders of images."""
    above = {""}
    for folder in images:
        names = folder.split("/")
        above |= {"/".join(names[:depth]) for depth in range(len(names))}
    places = [f"{folder}/{place}".strip("/") for folder in sorted(above) for place in PLACES]
    inside = [path for place in dict.fromkeys(places) for path in files.get(place, ())]
    return [path for path in inside if path.suffix.lower() == ".txt" and path.stem.lower() in LISTS]


def listed_parts(lists: Sequence[Path], stems: Collection[str]) -> tuple[dict[str, str], str]:
    """Stem -> the list that names it, and a remark; nothing where lists are of other images, or overlap."""
    part_of: dict[str, str] = {}
    for path in lists:
        known = [stem for line in _lines(path) if (stem := _stem(line, stems))]
        if 2 * len(known) < len(_lines(path)) or not known:
            continue
        if twice := sum(part_of.get(stem, path.stem) != path.stem for stem in known):
            return (
                {},
                f"{path.name} and other lists name {counted(twice, 'image')} twice: not used as published parts",
            )
        part_of |= dict.fromkeys(known, path.stem)
    return part_of, ""


def _stem(line: str, stems: Collection[str]) -> str:
    """The image that a line names, with or without folder, suffix and the name of its mask."""
    first = line.split()[0]
    return next((s for s in (line, Path(line).stem, first, Path(first).stem) if s in stems), "")


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            text = path.read_text(encoding="utf-8", errors="replace")
            return [line.strip() for line in text.splitlines() if line.strip()]
    return []
