"""Published archives, as downloaded or unpacked -> pairs of frames and masks, with groups and centers.

Names of archives are never looked at, only the folders and files inside; layouts.py says how each one looks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from shutil import rmtree

from orchestrator.data.folders import contents_of, is_image, is_litter
from orchestrator.data.images import image_size, write_black_mask
from orchestrator.data.layouts import ANY_FOLDER, LAYOUTS, Layout
from orchestrator.data.pairs import Membership, Pair, named, pair_up, short, told_apart
from orchestrator.data.unpack import MAX_BYTES, READABLE, Progress, archive_kind, unpack
from orchestrator.errors import BadData

MAX_FILES = 400_000
MAX_NESTED = 2  # archives in an archive, as the PraNet bundle is passed on; one more looks like a bomb

Files = Mapping[str, Sequence[Path]]  # folder, relative and with '/', "" for the top -> files in it


@dataclass(frozen=True)
class Found:
    """What a source holds, before anything is decoded."""

    layout: str  # in words
    pairs: tuple[Pair, ...]  # sorted by stem
    problems: tuple[str, ...]
    empty: bool  # masks without a polyp belong here
    temporary: bool  # the pairs lie in the folder that goes away


@contextmanager
def open_source(
    source: Path, staging: Path, parts: Sequence[str] = (), on_progress: Progress | None = None
) -> Iterator[Found]:
    """The pairs of a folder or an archive; archives are unpacked into `staging`, which is gone afterwards.

    BadData where no layout fits, and where several sets are found of which `parts` picks none.
    """
    if not source.exists():
        raise BadData(str(source), "expected a folder, a zip or a tar archive, found nothing there")
    rmtree(staging, ignore_errors=True)
    try:
        yield _recognise(source, staging, parts, on_progress)
    finally:
        rmtree(staging, ignore_errors=True)


def _recognise(source: Path, staging: Path, parts: Sequence[str], on_progress: Progress | None) -> Found:
    top = source
    written = 0
    if not source.is_dir():
        top = staging
        written += unpack(source, staging, on_progress=on_progress)
    for level in range(MAX_NESTED + 1):
        files = _files(top, source)
        sets = _find(files)
        archives = [] if sets else _archives(files)
        if not archives:
            break
        if level == MAX_NESTED:
            raise BadData(
                str(source), f"archives in archives, more than {MAX_NESTED} deep; unpack them first"
            )
        for archive in archives:
            inside = staging / _unpacked_name(archive.relative_to(top))
            written += unpack(archive, inside, room=MAX_BYTES - written, on_progress=on_progress)
            _lift(inside)
            if top == staging:
                archive.unlink()
        top = staging
    if not sets:
        raise BadData(str(source), f"no known layout fits; {_inside(files)}; known layouts: {_known()}")
    return _collect(source, _chosen(source, sets, parts), staging, temporary=top == staging)


def _files(top: Path, source: Path) -> Files:
    """Files by folder, without litter."""

    def refuse_many(count: int) -> None:
        if count > MAX_FILES:
            raise BadData(str(source), f"expected at most {MAX_FILES:,} files, found more; name one dataset")

    return contents_of(top, refuse_many).files


def _archives(files: Files) -> list[Path]:
    return [
        path
        for paths in files.values()
        for path in paths
        if path.is_file() and not is_image(path) and archive_kind(path) in READABLE
    ]


def _unpacked_name(archive: Path) -> Path:
    """a/images.tar.gz -> a/images; a name without suffix gets one more letter, as the file is still there."""
    stem = archive.name.split(".")[0]
    return archive.with_name(stem if stem and stem != archive.name else f"{archive.name}_")


def _lift(folder: Path) -> None:
    """masks/masks/1.png -> masks/1.png, where masks.zip held nothing but a folder of its own name."""
    inner = folder / folder.name
    if inner.is_dir() and all(path == inner or is_litter(path.name) for path in folder.iterdir()):
        outer = folder.rename(folder.with_name(f"{folder.name} outside"))
        (outer / folder.name).rename(folder)
        rmtree(outer)


@dataclass(frozen=True)
class Folders:
    """A folder of frames, a folder of masks and the layout that puts them together."""

    layout: Layout
    images: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    named: Mapping[str, str]  # groups of the pattern of the folder of frames

    @property
    def part(self) -> str:
        return self.layout.part.format(**self.named).strip("/") or "."


def _find(files: Files) -> list[Folders]:
    """Every folder of frames with its masks, each claimed by the first layout that fits."""
    found: list[Folders] = []
    claimed: set[str] = set()
    for layout in LAYOUTS:
        for images in files:
            match = re.fullmatch(layout.images, images)
            if match is None or images in claimed:
                continue
            named_groups = {name: text or "" for name, text in match.groupdict().items()}
            pattern = layout.masks.format(**{name: re.escape(text) for name, text in named_groups.items()})
            masks = [folder for folder in files if re.fullmatch(pattern, folder)] if layout.masks else []
            if len(masks) != bool(layout.masks):
                continue
            folders = _put_together(layout, images, masks, files, named_groups)
            if folders is not None:
                found.append(folders)
                claimed |= {images, *masks}
    return found


def _put_together(
    layout: Layout, images: str, masks: Sequence[str], files: Files, groups: Mapping[str, str]
) -> Folders | None:
    """None where the names of the files are not those of the layout."""
    frames = [path for path in files[images] if not re.fullmatch(layout.skip, path.name)]
    drawn = [path for folder in masks for path in files[folder] if not re.fullmatch(layout.skip, path.name)]
    if images in masks:
        drawn = [path for path in frames if named(layout.mask, path.stem)]
        frames = [path for path in frames if path not in drawn]
    pictures = [path for path in frames if is_image(path)]
    fits = bool(pictures) and all(named(layout.frame, path.stem) for path in pictures)
    if layout is ANY_FOLDER or (fits and (bool(drawn) or not layout.masks)):
        return Folders(layout, images, tuple(frames), tuple(drawn), groups)
    return None


def _chosen(source: Path, sets: Sequence[Folders], parts: Sequence[str]) -> list[Folders]:
    """The folders that make one dataset: those of `parts`, or all where they belong together."""
    names = {(folders.layout.title, folders.part) for folders in sets}
    if parts:
        wanted = {part: _parts_named(part, sets) for part in parts}
        if missing := [repr(part) for part, found in wanted.items() if not found]:
            raise BadData(str(source), f"found no part named {', '.join(missing)}; its parts: {_parts(sets)}")
        chosen = set().union(*wanted.values())
        return [folders for folders in sets if folders.part in chosen]
    if len(names) > 1 and not (len({title for title, _ in names}) == 1 and sets[0].layout.joined):
        raise BadData(str(source), f"holds several sets; pick one or more as parts: {_parts(sets)}")
    return list(sets)


def _parts_named(wanted: str, sets: Sequence[Folders]) -> set[str]:
    """The part of that name, or the only one whose path ends in it."""
    name = wanted.strip("/").casefold()
    parts = {folders.part for folders in sets}
    exact = {part for part in parts if part.casefold() == name}
    endings = {part for part in parts if part.casefold().endswith(f"/{name}")}
    return exact or (endings if len(endings) == 1 else set())


def _parts(sets: Sequence[Folders]) -> str:
    counts: Counter[tuple[str, str]] = Counter()
    for folders in sets:
        counts[folders.part, folders.layout.title] += len(folders.frames)
    return ", ".join(f"{part!r} ({title}, {n} frames)" for (part, title), n in sorted(counts.items()))


def _collect(source: Path, sets: Sequence[Folders], staging: Path, *, temporary: bool) -> Found:
    pairs: list[Pair] = []
    folder_names: list[str] = []
    problems: list[str] = []
    for folders in sets:
        masks: Sequence[Path] = folders.masks
        if not folders.layout.masks:
            masks, more = _draw_black(folders, staging)
            problems += more
        layout = folders.layout
        here, more = pair_up(folders.frames, masks, frame=layout.frame, mask=layout.mask, skip=layout.skip)
        problems += more
        pairs += _with_members(folders, here)
        folder_names += [folders.named.get("group") or Path(folders.part).name] * len(here)
    apart, more = told_apart(pairs, folder_names)
    return Found(
        layout=_in_words(sets),
        pairs=tuple(apart),
        problems=(*problems, *more),
        empty=any(folders.layout.empty for folders in sets),
        temporary=temporary,
    )


def _with_members(folders: Folders, pairs: Sequence[Pair]) -> list[Pair]:
    here = Membership(folders.named.get("group", ""), folders.named.get("center", ""))
    members = folders.layout.members(pairs)
    return [replace(pair, member=members.get(pair.stem, here)) for pair in pairs]


def _draw_black(folders: Folders, staging: Path) -> tuple[list[Path], list[str]]:
    """A mask without a polyp for each frame of an archive that says so of a whole folder."""
    drawn: list[Path] = []
    problems: list[str] = []
    folder = staging / "black masks" / folders.images
    folder.mkdir(parents=True, exist_ok=True)
    for frame in folders.frames:
        try:
            height, width = image_size(frame)
        except BadData as error:
            problems += [f"{short(frame)}: {problem}" for problem in error.problems]
            continue
        drawn.append(folder / f"{frame.stem}.bmp")
        write_black_mask(drawn[-1], height, width)
    return drawn, problems


def _in_words(sets: Sequence[Folders]) -> str:
    """PolypGen (images_C1/ + masks_C1/ ..., frames, sequences)"""
    texts = []
    for title, group in groupby(sets, key=lambda folders: folders.layout.title):
        here = list(group)
        parts = sorted({folders.part for folders in here if folders.layout.part != "{root}"})
        texts.append(f"{title} ({here[0].layout.shape}{''.join(f'; {part}' for part in parts)})")
    return ", ".join(texts)


def _inside(files: Files) -> str:
    """What a person would see on opening the folder: at most twelve folders with the files in each."""
    lines = [f"{folder or '.'}/ ({_kinds(paths)})" for folder, paths in files.items() if paths]
    rest = f" and {len(lines) - 12} more folders" if len(lines) > 12 else ""
    return f"inside: {', '.join(lines[:12])}{rest}" if lines else "it is empty"


def _kinds(paths: Sequence[Path]) -> str:
    counts = Counter(path.suffix.lower() or "without suffix" for path in paths)
    return ", ".join(f"{n} {suffix}" for suffix, n in counts.most_common(4))


def _known() -> str:
    return "; ".join(dict.fromkeys(f"{layout.title}: {layout.shape}" for layout in LAYOUTS))
