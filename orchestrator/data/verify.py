"""Look at every pair of files once: copy, decode, measure, and say in words what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from orchestrator.cpus import usable_cpus
from orchestrator.data.images import POLYP_ABOVE, read_grey_mask, read_image
from orchestrator.data.pairs import Pair
from orchestrator.errors import BadData
from orchestrator.files import replacing

NUM_THREADS = min(16, usable_cpus())
JOURNAL = "journal.jsonl"
# Measured on five published sets: 0.04 % at most, and that on the outlines, which do not count here.
MAX_GREY_SHARE = 0.01

Progress = Callable[[int, int], None]
Stamp = tuple[str | int, ...]


@dataclass(frozen=True)
class Facts:
    """What one look at an image and its mask found out."""

    height: int
    width: int
    mask_height: int
    mask_width: int
    polyp_fraction: float  # 0 to 1
    grey_share: float  # 0 to 1: neither dark nor bright, away from outlines
    brightest: int  # largest value of the mask, 0 to 255
    sha256: str  # of the bytes of both files
    image_sha256: str
    mask_sha256: str


def look_at(image: Path, mask: Path) -> Facts:
    """Decode both files; a BadData names each that does not decode."""
    pixels, image_problems = _tried(read_image, image)
    grey, mask_problems = _tried(read_grey_mask, mask)
    if pixels is None or grey is None:
        raise BadData(image.stem, image_problems + mask_problems)
    digests = file_sha256(image), file_sha256(mask)
    return Facts(
        height=pixels.shape[0],
        width=pixels.shape[1],
        mask_height=grey.shape[0],
        mask_width=grey.shape[1],
        polyp_fraction=float(np.mean(grey > POLYP_ABOVE)),
        grey_share=_grey_share(grey),
        brightest=int(grey.max()),
        sha256=pair_sha256(*digests),
        image_sha256=digests[0],
        mask_sha256=digests[1],
    )


def hash_pair(image: Path, mask: Path) -> str:
    """64 hex digits that change with any byte of either file."""
    return pair_sha256(file_sha256(image), file_sha256(mask))


def pair_sha256(image_sha256: str, mask_sha256: str) -> str:
    """64 hex digits from those of an image and of its mask."""
    return hashlib.sha256(f"{image_sha256} {mask_sha256}".encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """64 hex digits of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tried(read: Callable[[Path], np.ndarray], path: Path) -> tuple[np.ndarray | None, list[str]]:
    try:
        return read(path), []
    except BadData as error:
        return None, [f"{path.parent.name}/{path.name}: {problem}" for problem in error.problems]


def _grey_share(grey: np.ndarray) -> float:
    """Share of pixels strictly between 32 and 223 that lie further than two pixels from the outline."""
    between = (grey > 32) & (grey < 223)
    if between.mean() <= MAX_GREY_SHARE:
        return float(between.mean())
    polyp = (grey > POLYP_ABOVE).astype(np.uint8)
    outline = cv2.morphologyEx(polyp, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))
    return float(np.mean(between & (outline == 0)))


def problems_of(facts: Facts, stem: str, *, allow_empty: bool) -> list[str]:
    """What makes a decoded pair unusable for training and scoring; empty when all is well."""
    problems = []
    if (facts.height, facts.width) != (facts.mask_height, facts.mask_width):
        problems.append(
            f"image is {facts.width} x {facts.height}, mask is {facts.mask_width} x {facts.mask_height}; "
            "expected the same size"
        )
    if facts.grey_share > MAX_GREY_SHARE:
        problems.append(
            f"mask looks like a picture or a grey map: {facts.grey_share:.0%} of its pixels are neither dark "
            "nor bright; expected 0 and 255"
        )
    elif facts.polyp_fraction == 0 and facts.brightest > 0:
        problems.append(
            f"mask has nothing above {POLYP_ABOVE}, but values up to {facts.brightest}; expected 0 and 255"
        )
    elif facts.polyp_fraction == 0 and not allow_empty:
        problems.append("mask is empty; if frames without a polyp belong here, allow empty masks")
    elif facts.polyp_fraction == 1:
        problems.append("mask covers the whole frame; expected some background")
    return [f"{stem}: {problem}" for problem in problems]


def copy_verified(
    pairs: Sequence[Pair],
    partial: Path,
    *,
    allow_empty: bool,
    temporary: bool = False,
    on_progress: Progress | None = None,
) -> tuple[dict[str, Facts], list[str]]:
    """Copy every pair into `partial` and look at the copy: facts by stem, and all problems.

    What an earlier, killed run has verified is not done again. `temporary` pairs are moved, as nobody needs them.
    """
    take = _move if temporary else _copy
    stamps = {pair.stem: _stamp(pair) for pair in pairs}
    known = _read_journal(partial, stamps)
    _drop_strangers(partial, known)
    facts: dict[str, Facts] = {}
    problems: list[str] = []

    def work(pair: Pair) -> Facts | list[str]:
        return known[pair.stem] if pair.stem in known else _take_and_look(pair, partial, take)

    with (partial / JOURNAL).open("a") as journal, ThreadPoolExecutor(NUM_THREADS) as pool:
        for done, (pair, found) in enumerate(zip(pairs, pool.map(work, pairs), strict=True), start=1):
            if isinstance(found, Facts):
                facts[pair.stem] = found
                problems += problems_of(found, pair.stem, allow_empty=allow_empty)
                if pair.stem not in known:
                    journal.write(json.dumps({"stamp": stamps[pair.stem], "facts": asdict(found)}) + "\n")
                    journal.flush()
            else:
                problems += found
            if on_progress:
                on_progress(done, len(pairs))
    return facts, problems


def _take_and_look(pair: Pair, partial: Path, take: Callable[[Path, Path], None]) -> Facts | list[str]:
    image, mask = partial / "images" / pair.image_name, partial / "masks" / pair.mask_name
    try:
        take(pair.image, image)
        take(pair.mask, mask)
        return look_at(image, mask)
    except BadData as error:
        return list(error.problems)


def _move(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)


def _copy(source: Path, target: Path) -> None:
    try:
        original = source.open("rb")
    except OSError as error:
        raise BadData(source.stem, f"{source.parent.name}/{source.name}: {error.strerror}") from error
    with original, replacing(target) as copy:
        shutil.copyfileobj(original, copy, 1 << 20)


def _stamp(pair: Pair) -> Stamp:
    """Changes when a source file does, without reading it."""
    stats = [path.stat() for path in (pair.image, pair.mask)]
    sizes_and_times = (n for stat in stats for n in (stat.st_size, stat.st_mtime_ns))
    return (pair.stem, str(pair.image), str(pair.mask), *sizes_and_times)


def _read_journal(partial: Path, stamps: Mapping[str, Stamp]) -> dict[str, Facts]:
    """Facts, by stem, that still hold; a line that does not read, as one torn by a kill, is left out."""
    for name in ("images", "masks"):
        (partial / name).mkdir(parents=True, exist_ok=True)
    entries = {}
    journal = partial / JOURNAL
    for line in journal.read_text(errors="replace").splitlines() if journal.exists() else ():
        with suppress(ValueError, TypeError, KeyError):  # torn, damaged, or of another version
            entry = json.loads(line)
            entries[tuple(entry["stamp"])] = Facts(**entry["facts"])
    return {stem: entries[stamp] for stem, stamp in stamps.items() if stamp in entries}


def _drop_strangers(partial: Path, known: dict[str, Facts]) -> None:
    for path in (*(partial / "images").iterdir(), *(partial / "masks").iterdir()):
        if path.stem not in known:
            path.unlink()
