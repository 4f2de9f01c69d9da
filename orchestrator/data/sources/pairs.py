"""Pairs of an image and its mask, and unusable files in their folders."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.data.images import EXTENSIONS
from orchestrator.data.sources.folders import ARRAYS, DICOM, UNREAD_PICTURES, VIDEOS, is_image
from orchestrator.data.sources.match import Matched
from orchestrator.data.spelling import composed, difference_text, folded
from orchestrator.data.unusable import Bad

MAX_FILE_BYTES = 512 << 20  # more than any image within the limit on pixels needs
MAX_STEM = (
    220  # bytes of a name without suffix; file systems take 255, and files derived from it have longer names
)
# Not ignored next to images, since a frame would be lost.
OTHER_PICTURES = VIDEOS | UNREAD_PICTURES | DICOM | ARRAYS


@dataclass(frozen=True)
class Membership:
    """Origin of a case, as far as it is known."""

    group: str = ""
    center: str = ""


@dataclass(frozen=True)
class Pair:
    """The original files of one case, and its origin according to the folder."""

    stem: str
    image: Path
    mask: Path
    member: Membership = field(default_factory=Membership)
    part: str = ""  # of a published archive: TrainDataset, TestHardDataset/Unseen, val

    @property
    def image_name(self) -> str:
        return f"{self.stem}{self.image.suffix}"

    @property
    def mask_name(self) -> str:
        return f"{self.stem}{self.mask.suffix}"


@dataclass(frozen=True)
class Files:
    """The files of a folder by their use."""

    pictures: tuple[Path, ...]
    bad: tuple[Bad, ...]
    stray: tuple[Path, ...]  # no images: notes, tables, boxes


def classify_files(paths: Iterable[Path], skip: str = "") -> Files:
    """Files of a folder by their use, without files whose whole name matches `skip`."""
    pictures, bad, stray = [], [], []
    paths = sorted(path for path in paths if not re.fullmatch(skip, path.name))
    stems = {path.stem for path in paths if is_image(path)}
    for path in paths:
        suffix = path.suffix.lower()
        if is_image(path):
            why = _unusable(path)
            bad += (
                [Bad(short(path) if path.name.isprintable() else ascii(short(path)), why, path.stem)]
                if why
                else []
            )
            pictures += [] if why else [path]
        elif suffix in OTHER_PICTURES and path.stem.removesuffix(".nii") not in stems:
            bad.append(
                Bad(short(path), f"expected one of {' '.join(EXTENSIONS)}; convert it to PNG", path.stem)
            )
        else:
            stray.append(path)
    return Files(tuple(pictures), tuple(bad), tuple(stray))


def _unusable(path: Path) -> str:
    if not path.is_file():
        return "is a link that leads nowhere" if path.is_symlink() else "expected a file"
    if not path.stem.isprintable():
        return "expected a printable name"
    return f"expected at most {MAX_FILE_BYTES:,} bytes" if path.stat().st_size > MAX_FILE_BYTES else ""


def match_published(frames: Sequence[Path], masks: Sequence[Path], *, frame: str, mask: str) -> Matched:
    """Pairs by the patterns of a published layout: their group `stem`, if there is one, is equal in both names.

    A mask with exactly the name of an image belongs to it, whatever the pattern says.
    """
    images, doubled = _by_stem(frames, frame, ())
    drawn, more = _by_stem(masks, mask, images)
    return Matched(
        pairs=tuple((images[stem], drawn[stem]) for stem in sorted(images.keys() & drawn.keys())),
        without_mask=tuple(images[stem] for stem in sorted(images.keys() - drawn.keys())),
        without_image=tuple(drawn[stem] for stem in sorted(drawn.keys() - images.keys())),
        doubled=tuple(doubled + more),
    )


def _by_stem(
    paths: Sequence[Path], pattern: str, known: Iterable[str]
) -> tuple[dict[str, Path], list[tuple[Path, Path]]]:
    """Files by the part of the name that they share with their partners; a name in `known` is taken as it is."""
    files: dict[str, Path] = {}
    doubled = []
    for path in sorted(paths):
        stem = composed(path.stem)
        stem = stem if stem in known else named(pattern, stem) or stem
        if files.setdefault(stem, path) is not path:
            doubled.append((path, files[stem]))
    return files, doubled


def named(pattern: str, stem: str) -> str | None:
    """The part of a name that it shares with its partner's; None if the name does not match the pattern."""
    match = re.fullmatch(pattern, stem)
    return match and (match.groupdict().get("stem") or stem)


def short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def unique_stems(pairs: Sequence[Pair], names: Sequence[Sequence[str]]) -> tuple[list[Pair], list[Bad]]:
    """Pairs with unique stems: a repeated stem gets the first of its `names` as a prefix that makes it unique.

    Of pairs that no prefix distinguishes the first is kept.
    """
    stems = [pair.stem for pair in pairs]
    for level in range(max((len(prefixes) for prefixes in names), default=0)):
        times = Counter(folded(stem) for stem in stems)
        stems = [
            f"{prefixes[min(level, len(prefixes) - 1)]}_{pair.stem}"
            if times[folded(stem)] > 1 and prefixes
            else stem
            for pair, stem, prefixes in zip(pairs, stems, names, strict=True)
        ]
    kept: dict[str, Pair] = {}
    bad = []
    for pair, stem in zip(pairs, stems, strict=True):
        other = kept.setdefault(folded(stem), replace(pair, stem=stem))
        if other.image != pair.image:
            one, two = _distinct_ends(pair.image, other.image)
            but = difference_text(pair.image.stem, other.image.stem) or difference_text(stem, other.stem)
            bad.append(Bad(one, f"{two} has the same stem{but}; keep one", stem))
    for stem in [stem for stem, pair in kept.items() if len(os.fsencode(pair.stem)) > MAX_STEM]:
        pair = kept.pop(stem)
        bad.append(Bad(short(pair.image), f"expected a name of at most {MAX_STEM} bytes", pair.stem))
    return sorted(kept.values(), key=lambda pair: pair.stem), bad


def _distinct_ends(one: Path, two: Path) -> tuple[str, str]:
    """The shortest ends of two paths, with at least two names, that differ."""
    for count in range(2, max(len(one.parts), len(two.parts)) + 1):
        ends = "/".join(one.parts[-count:]), "/".join(two.parts[-count:])
        if ends[0] != ends[1]:
            return ends
    return str(one), str(two)


def collapsed(problems: Iterable[str], most: int = 10) -> list[str]:
    """Problems with equal reasons, for more files than `most`, as one line with the first files and a count."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        file, _, why = problem.partition(": ")
        by_reason[why or problem].append(file)
    lines = []
    for why, files in by_reason.items():
        if len(files) > most:
            lines.append(f"{', '.join(files[:3])} and {len(files) - 3} more: {why}")
        else:
            lines += [f"{file}: {why}" if file != why else why for file in files]
    return lines
