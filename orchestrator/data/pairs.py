"""Frames and masks in folders -> pairs by name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.data.folders import is_litter
from orchestrator.data.images import EXTENSIONS

MAX_FILE_BYTES = 512 << 20  # more than any image within the limit on pixels needs


@dataclass(frozen=True)
class Membership:
    """Where a case comes from, as far as is known."""

    group: str = ""
    center: str = ""


@dataclass(frozen=True)
class Pair:
    """The files of one case where the user keeps them, and what their folder says about it."""

    stem: str
    image: Path
    mask: Path
    member: Membership = field(default_factory=Membership)

    @property
    def image_name(self) -> str:
        return f"{self.stem}{self.image.suffix}"

    @property
    def mask_name(self) -> str:
        return f"{self.stem}{self.mask.suffix}"


def pair_up(
    frames: Sequence[Path], masks: Sequence[Path], *, frame: str, mask: str, skip: str
) -> tuple[list[Pair], list[str]]:
    """Pairs sorted by stem, and what is wrong with the files that make none.

    `frame` and `mask` are patterns of names without suffix whose group `stem`, if there, is what pairs them;
    a file whose whole name fits `skip` is passed over.
    """
    images, problems = _by_stem(frames, frame, skip, {})
    drawn, more = _by_stem(masks, mask, skip, images)
    problems += more
    problems += [f"{short(images[s])}: no mask has this stem" for s in sorted(images.keys() - drawn.keys())]
    problems += [f"{short(drawn[s])}: no image has this stem" for s in sorted(drawn.keys() - images.keys())]
    pairs = [Pair(stem, images[stem], drawn[stem]) for stem in sorted(images.keys() & drawn.keys())]
    if not pairs and not problems:
        problems.append("expected images with masks, found no files")
    return pairs, problems


def _by_stem(
    paths: Sequence[Path], pattern: str, skip: str, known: Mapping[str, Path]
) -> tuple[dict[str, Path], list[str]]:
    """Files by what their names have in common with their partners'; a name in `known` is one as it is."""
    files: dict[str, Path] = {}
    problems = []
    for path in sorted(paths):
        if is_litter(path.name) or re.fullmatch(skip, path.name):
            continue
        stem = path.stem if path.stem in known else named(pattern, path.stem)
        if not path.is_file() or path.suffix.lower() not in EXTENSIONS:
            problems.append(f"{short(path)}: expected a file ending in {' '.join(EXTENSIONS)}")
        elif not path.stem.isprintable():
            problems.append(f"{short(path)!a}: expected a printable name")
        elif stem is None:
            problems.append(f"{short(path)}: expected a name like the others', found {path.name}")
        elif stem in files:
            problems.append(f"{short(path)}: {files[stem].name} has the same stem; keep one")
        elif path.stat().st_size > MAX_FILE_BYTES:
            problems.append(f"{short(path)}: expected at most {MAX_FILE_BYTES:,} bytes")
        else:
            files[stem] = path
    return files, problems


def named(pattern: str, stem: str) -> str | None:
    """What pairs a name of that pattern with its partner's; None where the name does not fit."""
    match = re.fullmatch(pattern, stem)
    return match and (match.groupdict().get("stem") or stem)


def short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def told_apart(pairs: Sequence[Pair], folders: Sequence[str]) -> tuple[list[Pair], list[str]]:
    """Pairs from many folders with one stem each: a stem found twice is led by the name of its folder."""
    times = Counter(pair.stem for pair in pairs)
    apart = [
        replace(pair, stem=f"{folder}_{pair.stem}") if times[pair.stem] > 1 else pair
        for pair, folder in zip(pairs, folders, strict=True)
    ]
    seen: dict[str, Pair] = {}
    problems = []
    for pair in apart:
        other = seen.setdefault(pair.stem.casefold(), pair)
        if other is not pair:
            case = "" if other.stem == pair.stem else ", but for upper and lower case"
            problems.append(f"{short(pair.image)}: {short(other.image)} has the same stem{case}; keep one")
    return sorted(apart, key=lambda pair: pair.stem), problems
