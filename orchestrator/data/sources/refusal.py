"""Error text for a source without images and masks: its content, the nearest layout, commands that would work."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from orchestrator.common.errors import BadData
from orchestrator.data.images import EXTENSIONS, read_image
from orchestrator.data.sources.folders import ARRAYS, DICOM, UNREAD_PICTURES, is_image
from orchestrator.data.sources.foreign import annotations_found
from orchestrator.data.sources.layouts import LAYOUTS
from orchestrator.data.sources.match import guessed_pattern, match
from orchestrator.data.sources.own_folders import read_path
from orchestrator.data.sources.pairs import named
from orchestrator.data.sources.sets import folders_with_images
from orchestrator.data.sources.unpack import READABLE, archive_kind

MOST = 20  # folders for which commands are tried
MOST_ADVICE = 2  # lines
UNCLEAR_NAMES = "the names of these folders do not say which has images and which masks"
MAX_TRIED = 3  # images of a folder that are decoded to check whether they are masks
UNREAD = UNREAD_PICTURES | DICOM | ARRAYS
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".mpg", ".wmv", ".webm", ".m4v")


def nothing_fits(command: str, files: Mapping[str, Sequence[Path]]) -> str:
    """At most four lines: what was found, what to do, where layouts are listed; given the `command` that failed."""
    if not any(files.values()):
        return "it is empty; expected images with masks"
    lines = [f"found no images with masks, {_inside(files)}"]
    lines += [f"  {line}" for line in islice(_advice(command, files), MOST_ADVICE)]
    lines.append("  layouts that are recognised: orchestrator data layouts")
    return "\n".join(lines)


def _inside(files: Mapping[str, Sequence[Path]]) -> str:
    others = Counter(
        path.suffix.lower() or "without suffix"
        for paths in files.values()
        for path in paths
        if not is_image(path)
    )
    rest = ", ".join(f"{n} {suffix}" for suffix, n in others.most_common(5))
    if not any(is_image(path) for paths in files.values() for path in paths):
        return f"only {rest}"
    return f"but {folders_with_images(files)}" + (f"; other files: {rest}" if rest else "")


def _advice(command: str, files: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    if lines := _closed_archives(files) or _known_without_masks(files):
        yield lines
        return
    foreign = annotations_found(files)
    if foreign:
        yield f"these annotations are not masks: {foreign}"
    if unread := _unread(files):
        yield f"nearest: images/ + masks/; these are not read, convert them to PNG first: {unread}"
        return
    if not any(is_image(path) for paths in files.values() for path in paths):
        has_videos = any(path.suffix.lower() in VIDEOS for paths in files.values() for path in paths)
        videos = "; extract the frames of a video first" * has_videos
        yield f"nearest: images/ + masks/; it lacks images ({' '.join(EXTENSIONS)}){videos}"
        return
    commands = list(_commands(command, files))
    if lacking := _published(files):
        yield f"nearest: {lacking}"
    elif not foreign:
        yield f"nearest: images/ + masks/; {_what_is_unclear(files) if not commands else UNCLEAR_NAMES}"
    if commands:
        yield f"this would work: {commands[0]}"
    elif not foreign:
        images = next(folder for folder, paths in files.items() if any(map(is_image, paths))) or "."
        is_one = sum(any(map(is_image, paths)) for paths in files.values()) == 1
        no_polyp = (
            f"; or, if no image shows a polyp: {command} --images {images!r} --without-mask empty" * is_one
        )
        yield f"say where they are: {command} --images {images!r} --masks FOLDER{no_polyp}"


def _what_is_unclear(files: Mapping[str, Sequence[Path]]) -> str:
    masks = [folder for folder in files if read_path(folder).kind == "masks"]
    lacks = f"images that belong to {masks[0]}/" if masks else "a folder of masks (masks, gt, labels, ...)"
    return f"it lacks {lacks}"


def _unread(files: Mapping[str, Sequence[Path]]) -> str:
    """`2 .dcm in scans/`: files with pictures that are not read."""
    counts = Counter(
        f"{path.suffix.lower()} in {folder or '.'}/"
        for folder, paths in files.items()
        for path in paths
        if path.suffix.lower() in UNREAD
    )
    return ", ".join(f"{n} {where}" for where, n in counts.most_common(3))


def _closed_archives(files: Mapping[str, Sequence[Path]]) -> str:
    """Advice to unpack RAR and 7z archives, as PICCOLO is published; "" if there are none."""
    others = [path for paths in files.values() for path in paths if not is_image(path)]
    kinds = {path.name: archive_kind(path) for path in others[:MOST]}
    closed = [f"{name} ({kind})" for name, kind in kinds.items() if kind and kind not in READABLE]
    return f"unpack {', '.join(closed[:3])}, and add the folder" if closed else ""


def _known_without_masks(files: Mapping[str, Sequence[Path]]) -> str:
    """Advice on HyperKvasir's labeled images, the SUN database, or masks of SUN-SEG; "" for others."""
    with_images = [folder for folder, paths in files.items() if any(map(is_image, paths))]
    if any(re.fullmatch(r"(.*/)?GT/case\d+_\d+", folder) for folder in with_images):
        return (
            "these are masks of SUN-SEG; move the frames of the SUN database to Frame/case1_1/ next to GT/case1_1/, as "
            "reorganize.sh of github.com/GewelsJI/VPS does"
        )
    if any("labeled-images" in folder.split("/") for folder in with_images):
        return "the labeled images of HyperKvasir have no masks; its segmented-images have"
    if any(folder.split("/")[-1] == "annotation_txt" for folder in files):
        return "the SUN database has boxes, not masks; masks of its frames are in SUN-SEG, github.com/GewelsJI/VPS"
    return ""


def _published(files: Mapping[str, Sequence[Path]]) -> str:
    """Hint on the published layout whose folder of images exists, but not its folder of masks."""
    for layout in LAYOUTS:
        for folder, paths in files.items():
            is_match = re.fullmatch(layout.images, folder) and not re.fullmatch(layout.images, "images")
            is_match = is_match and layout.masks not in ("{root}", "{root}{group}")  # in one folder
            is_named_so = any(is_image(path) and named(layout.frame, path.stem) for path in paths)
            if is_match and layout.masks and folder and is_named_so:
                return f"{layout.title} ({layout.shape}); next to {folder}/ it lacks the folder of masks"
    return ""


def _commands(command: str, files: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    """Commands for all pairs of folders whose files match, where one contains masks by its name or its pixels."""
    folders = {folder: [path for path in paths if is_image(path)] for folder, paths in files.items()}
    folders = dict(list({folder: paths for folder, paths in folders.items() if paths}.items())[:MOST])
    masks = [f for f, paths in folders.items() if read_path(f).kind == "masks" or _are_masks(paths)]
    for images, frames in folders.items():
        for drawn in masks if images not in masks else ():
            pattern = "" if match(frames, folders[drawn]).pairs else guessed_pattern(frames, folders[drawn])
            found = match(frames, folders[drawn], pattern)
            if 2 * len(found.pairs) > len(frames):
                named = f" --pattern {pattern!r}" if pattern else ""
                yield f"{command} --images {images or '.'!r} --masks {drawn or '.'!r}{named}"
        if (pattern := _by_suffix(frames)) and images not in masks:
            yield f"{command} --images {images or '.'!r} --masks {images or '.'!r} --pattern {pattern!r}"


def _by_suffix(paths: Sequence[Path]) -> str:
    """{name}.png if each image of a folder has a mask with the same stem and this suffix; "" otherwise."""
    by_suffix: dict[str, list[Path]] = {}
    for path in paths:
        by_suffix.setdefault(path.suffix, []).append(path)
    masks = [suffix for suffix, here in by_suffix.items() if _are_masks(here)]
    stems = [sorted(path.stem for path in here) for here in by_suffix.values()]
    return f"{{name}}{masks[0]}" if len(stems) == 2 and stems[0] == stems[1] and len(masks) == 1 else ""


def _are_masks(paths: Sequence[Path]) -> bool:
    """Whether nearly all pixels of the first images have one of a few flat colours."""
    flat = []
    for path in paths[:MAX_TRIED]:
        try:
            pixels = read_image(path).reshape(-1, 3)[::7]
        except BadData:
            continue
        counts = np.unique(pixels >> 4, axis=0, return_counts=True)[1]
        flat.append(np.sort(counts)[-4:].sum() >= 0.97 * counts.sum())
    return bool(flat) and all(flat)
