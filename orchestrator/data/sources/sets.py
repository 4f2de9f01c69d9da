"""The sets of images in a source, and the choice of those that make the dataset."""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from orchestrator.common.display import counted
from orchestrator.common.errors import BadData
from orchestrator.data.published.parts import role_of
from orchestrator.data.sources.folders import is_image
from orchestrator.data.sources.layouts import FIRST_VIEW, LAYOUTS, OWN, Layout
from orchestrator.data.sources.match import separate_masks
from orchestrator.data.sources.own_folders import OwnSet, find_own, is_split, name_info, num_common
from orchestrator.data.sources.pairs import named
from orchestrator.data.spelling import folded

MOST_PARTS = 8  # in the message of a source with several sets

Files = Mapping[str, Sequence[Path]]  # folder, relative and with '/', "" for the top -> files in it


@dataclass(frozen=True)
class SourceOptions:
    """The user's options for reading a source; by default everything follows from its content."""

    parts: tuple[str, ...] = ()  # names of sets, or their beginnings or ends
    images: str = ""  # folder of images, relative to the source or absolute
    masks: str = ""
    pattern: str = ""  # the name of a mask, such as {name}_mask
    groups: str = ""  # folders: every folder is a group; none: no groups; "": groups where names are evident
    without_mask: str = "refuse"  # or empty: an image without a mask shows no polyp
    skip_bad: bool = False  # whether unusable files are left out

    @property
    def named(self) -> bool:
        """Whether the user names folders or patterns, so that published layouts are not tried."""
        return bool(self.images or self.masks or self.pattern or self.groups == "folders")

    @property
    def options(self) -> str:
        """The options as on the command line, with a leading blank each."""
        words = [word for part in self.parts for word in ("--part", part)]
        named = (("--images", self.images), ("--masks", self.masks), ("--pattern", self.pattern))
        words += [
            word for option, text in (*named, ("--groups", self.groups)) if text for word in (option, text)
        ]
        words += ["--without-mask", self.without_mask] if self.without_mask != "refuse" else []
        return f" {shlex.join(words)}" * bool(words) + " --skip-bad" * self.skip_bad


AS_FOUND = SourceOptions()


@dataclass(frozen=True)
class Task:
    """A source that is to become a dataset, with the user's options."""

    source: str
    command: str  # the user's command, completed in errors to one that would work
    reading: SourceOptions
    files: Files
    staging: Path  # a temporary folder

    def place_of(self, path: Path) -> str:
        """Path of a file below the source, as the user sees it."""
        parent = path.parent.as_posix()
        folders = (folder for folder in self.files if folder and parent.endswith(f"/{folder}"))
        return f"{max(folders, key=len, default=path.parent.name)}/{path.name}"


@dataclass(frozen=True)
class Folders:
    """A folder of images, its possible folders of masks, and the layout that relates them."""

    layout: Layout
    images: str
    masks: tuple[str, ...]
    named: Mapping[str, str]  # root, part, group and center, as far as names of folders contain them
    num_frames: int = 0

    @property
    def part(self) -> str:
        return self.layout.part.format(**self.named).strip("/") or "."

    @property
    def group(self) -> str:
        return self.named.get("group", "")


def find_sets(files: Files, reading: SourceOptions) -> list[Folders]:
    """Every folder of images with its masks, by the first layout that fits, else by the names of folders."""
    published = [] if reading.named else list(_find_published(files))
    claimed = {folder for folders in published for folder in (folders.images, *folders.masks)}
    left = {folder: paths for folder, paths in files.items() if folder not in claimed}
    images = folder_named(reading.images, files, "--images") if reading.images else None
    masks = folder_named(reading.masks, files, "--masks") if reading.masks else None
    own = find_own(left, images, masks, reading.pattern)
    if published and not any(one.masks for one in own):
        own = []
    return _with_roots(published) + _own(own, files, reading)


def _find_published(files: Files) -> Iterator[Folders]:
    claimed: set[str] = set()
    folders_with_images = [folder for folder, paths in files.items() if any(map(is_image, paths))]
    for layout in LAYOUTS:
        for images in folders_with_images:
            match = re.fullmatch(layout.images, images)
            if match is None or images in claimed:
                continue
            groups = {name: text or "" for name, text in match.groupdict().items()}
            pattern = re.compile(layout.masks.format(**{n: re.escape(text) for n, text in groups.items()}))
            masks = (
                [folder for folder in folders_with_images if pattern.fullmatch(folder)]
                if layout.masks
                else []
            )
            frames = _frames(layout, files[images], images in masks)
            if len(masks) == bool(layout.masks) and frames:
                yield Folders(layout, images, tuple(masks), groups, len(frames))
                claimed |= {images, *masks}


def _frames(layout: Layout, paths: Sequence[Path], both: bool) -> list[str]:
    """Names of a folder's images if all match the layout, else none; `both`: its masks are in the same folder."""
    stems = [path.stem for path in paths if is_image(path) and not re.fullmatch(layout.skip, path.name)]
    masks = {stem for stem in stems if both and named(layout.mask, stem)}
    frames = [stem for stem in stems if stem not in masks]
    fits = bool(masks) or not both
    return frames if fits and all(named(layout.frame, stem) for stem in frames) else []


def _with_roots(sets: Sequence[Folders]) -> list[Folders]:
    """The same sets; parts of equal name below different folders get the folder as a prefix."""
    roots = defaultdict(set)
    for folders in sets:
        roots[folders.layout.title, folders.part].add(folders.named.get("root", ""))
    return [
        replace(folders, layout=replace(folders.layout, part="{root}{part}"))
        if folders.layout.part == "{part}" and len(roots[folders.layout.title, folders.part]) > 1
        else folders
        for folders in sets
    ]


def _own(found: Sequence[OwnSet], files: Files, reading: SourceOptions) -> list[Folders]:
    common = num_common([own.meaning.place for own in found])
    sets = []
    for own in found:
        said = name_info(own, common, reading.groups)
        group = "" if reading.groups == "none" else said.group
        shape = f"{own.images or '.'}/ + {' or '.join(own.masks) or 'none'}/"
        shape = "images and masks in one folder" if own.masks == (own.images,) else shape
        known = {"part": said.part, "group": group, "center": said.center, "place": said.place}
        frames = [path for path in files[own.images] if is_image(path)]
        if own.masks == (own.images,):
            frames = separate_masks(frames, reading.pattern)[0]
        sets.append(Folders(replace(OWN, shape=shape), own.images, own.masks, known, len(frames)))
    return sets


def folder_named(wanted: str, files: Files, option: str) -> str:
    """The key of a folder that the user names by its path, or by the end of it; BadData lists the folders."""
    name = wanted.replace("\\", "/").strip("/").removeprefix("./")
    name = "" if name == "." else name
    inside = {parent for folder in files for parent in _and_parents(folder)}
    for fits in (
        lambda folder: folder in (name, wanted),
        lambda folder: folded(folder) == folded(name),
        lambda folder: folded(folder).endswith(f"/{folded(name)}"),
    ):
        if len(found := sorted(filter(fits, inside))) == 1:
            return found[0]
        if found:
            break
    what = (
        f"several folders end like this: {', '.join(found)}"
        if found
        else f"folders with images: {folders_with_images(files)}"
    )
    raise BadData(f"{option} {wanted}", f"expected a folder of the source, or an absolute path; {what}")


def _and_parents(folder: str) -> Iterator[str]:
    yield folder
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def folders_with_images(files: Files, most: int = 6) -> str:
    """`frames/ (20 images), gt/ (20 images)`: folders with images; by parent folder if there are many."""
    counts: Counter[str] = Counter()
    for folder, paths in files.items():
        counts[folder or "."] += sum(map(is_image, paths))
    found = {folder: count for folder, count in counts.items() if count}
    if len(found) > most:
        above: Counter[str] = Counter()
        for folder, count in found.items():
            above["/".join(folder.split("/")[:-1]) or folder] += count
        found = dict(above) if len(above) < len(found) else found
    texts = [f"{folder}/ ({count} image{'s' * (count > 1)})" for folder, count in found.items()]
    rest = f" and {len(texts) - most} more folders" if len(texts) > most else ""
    return ", ".join(texts[:most]) + rest or "none"


def chosen(source: str, command: str, sets: Sequence[Folders], reading: SourceOptions) -> list[Folders]:
    """The sets that make one dataset: those of the wanted parts, or all if they belong together."""
    if reading.parts:
        wanted = {part: _parts_named(part, sets) for part in reading.parts}
        if missing := [repr(part) for part, found in wanted.items() if not found]:
            raise BadData(source, f"found no part named {', '.join(missing)}; its parts: {_parts(sets)}")
        inside = set().union(*wanted.values())
        picked = [folders for folders in sets if folders.part in inside]
        _refuse_views(source, picked)
        return picked
    if any(folders.layout.view == FIRST_VIEW for folders in sets):
        sets = [folders for folders in sets if folders.layout.view in ("", FIRST_VIEW)]
    names = {(folders.layout.title, folders.part) for folders in sets}
    if len(names) > 1 and not (len({title for title, _ in names}) == 1 and sets[0].layout.joined):
        raise BadData(source, _which_parts(command, sets))
    return list(sets)


def _which_parts(command: str, sets: Sequence[Folders]) -> str:
    first = min((folders.part for folders in sets), key=_by_role)
    lines = [
        f"holds several sets; pick one or more as parts: {_parts(sets, MOST_PARTS)}",
        f"  as {command} --part {first!r}",
    ]
    if len({folders.layout.view for folders in sets}) == 1:
        lines[1] += f", or all of them: --part {'*'!r}"
    if all(folders.layout.own and not is_split(folders.part) for folders in sets):
        lines.append("  or, if each folder is a patient or a video: --groups folders")
    return "\n".join(lines)


def _parts_named(wanted: str, sets: Sequence[Folders]) -> set[str]:
    """Parts with this name; else those that begin or end with it (whole folder names), or contain it, or match it."""
    name = folded(wanted.strip("/"))
    parts = {folders.part: folded(folders.part) for folders in sets}
    if exact := {part for part, text in parts.items() if text == name}:
        return exact
    if any(sign in name for sign in "*?["):
        return {part for part, text in parts.items() if fnmatchcase(text, name)}
    outer = {
        part for part, text in parts.items() if text.endswith(f"/{name}") or f"{text}/".startswith(f"{name}/")
    }
    return outer or {part for part, text in parts.items() if f"/{name}/" in text}


def _refuse_views(source: str, picked: Sequence[Folders]) -> None:
    views = defaultdict(list)
    for folders in picked:
        views[folders.layout.title, folders.layout.view].append(folders.part)
    for (title, view), parts in views.items():
        others = [other for other in views if other[0] == title and other[1] != view]
        if others:
            listed = "; ".join(f"{one}: {', '.join(sorted(set(views[title, one])))}" for _, one in views)
            raise BadData(
                source,
                f"{title} holds the same images in {len(others) + 1} orders; pick parts of one, as --part {parts[0]!r}"
                f"; found {listed}",
            )


def _by_role(part: str) -> tuple[int, str]:
    """A key by which parts are sorted: those to train on first, then those to validate and to test on."""
    return ("train", "val", "test", "").index(role_of(part)), part


def _parts(sets: Sequence[Folders], most: int | None = None) -> str:
    counts: Counter[tuple[str, str]] = Counter()
    for folders in sets:
        counts[folders.part, folders.layout.title] += folders.num_frames
    texts = [
        f"{part!r} ({title}, {counted(counts[part, title], 'frame')})"
        for part, title in sorted(counts, key=lambda name: (_by_role(name[0]), name[1]))
    ]
    more = f" and {len(texts) - most} more" if most is not None and len(texts) > most else ""
    return ", ".join(texts[:most]) + more
