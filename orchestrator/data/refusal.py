"""What to say where no set of images with masks is found: what is there, what is nearest, what would work."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from orchestrator.data.folders import is_image
from orchestrator.data.foreign import annotations_found
from orchestrator.data.images import EXTENSIONS, read_image
from orchestrator.data.layouts import LAYOUTS
from orchestrator.data.match import match
from orchestrator.data.own import read_path
from orchestrator.data.sets import pictured
from orchestrator.errors import BadData

LOOKED_AT = 3  # images of a folder that are decoded to see whether they are masks
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".mpg", ".wmv", ".webm", ".m4v")


def nothing_fits(command: str, files: Mapping[str, Sequence[Path]]) -> str:
    """About five lines for a person who has just given `command`."""
    if not any(files.values()):
        return "it is empty; expected images with masks"
    lines = ["found no images with masks", f"  found: {_inside(files)}"]
    lines += [f"  {line}" for line in _nearest(command, files)]
    lines.append(
        f"  published sets that are recognised: {', '.join(dict.fromkeys(one.title for one in LAYOUTS))}"
    )
    return "\n".join(lines)


def _inside(files: Mapping[str, Sequence[Path]]) -> str:
    others = Counter(
        path.suffix.lower() or "without suffix"
        for paths in files.values()
        for path in paths
        if not is_image(path)
    )
    rest = ", ".join(f"{n} {suffix}" for suffix, n in others.most_common(5))
    return pictured(files) + (f"; other files: {rest}" if rest else "")


def _nearest(command: str, files: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    suffixes = {path.suffix.lower() for paths in files.values() for path in paths}
    foreign = annotations_found(files)
    if foreign:
        yield f"these annotations are not masks: {foreign}"
    if not any(is_image(path) for paths in files.values() for path in paths):
        videos = "; extract the frames of a video first" if suffixes & set(VIDEOS) else ""
        yield f"nearest: images/ + masks/; it lacks images ({' '.join(EXTENSIONS)}){videos}"
        return
    commands = list(_commands(command, files))
    if lacking := _published(files):
        yield f"nearest: {lacking}"
    elif commands:
        yield "nearest: images/ + masks/; the names of these folders do not say which holds what"
    elif not foreign:
        masks = [folder for folder in files if read_path(folder).kind == "masks"]
        lacks = (
            f"images that belong to {masks[0]}/" if masks else "a folder of masks (masks, gt, labels, ...)"
        )
        yield f"nearest: images/ + masks/; it lacks {lacks}"
    if commands:
        yield from (f"this would work: {one}" for one in commands[:2])
    elif not foreign:
        yield f"say where they are: {command} --images FOLDER --masks FOLDER"


def _published(files: Mapping[str, Sequence[Path]]) -> str:
    """The published layout whose folder of images is there, but not that of the masks."""
    for layout in LAYOUTS:
        for folder, paths in files.items():
            telling = re.fullmatch(layout.images, folder) and not re.fullmatch(layout.images, "images")
            telling = telling and layout.images != "(?P<root>.*)"
            if telling and layout.masks and folder and any(map(is_image, paths)):
                return f"{layout.title} ({layout.shape}); beside {folder}/ it lacks the folder of masks"
    return ""


def _commands(command: str, files: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    """For every two folders whose files pair by name, of which one holds masks by the looks of it."""
    folders = {folder: [path for path in paths if is_image(path)] for folder, paths in files.items()}
    folders = {folder: paths for folder, paths in folders.items() if paths}
    masks = [folder for folder in list(folders)[:20] if _are_masks(folders[folder])]
    for images in [folder for folder in list(folders)[:20] if folder not in masks]:
        for drawn in masks:
            found = match(folders[images], folders[drawn])
            if found.pairs and 2 * len(found.pairs) >= len(folders[images]):
                yield f"{command} --images {images or '.'!r} --masks {drawn or '.'!r}"


def _are_masks(paths: Sequence[Path]) -> bool:
    """Whether the first images of a folder have hardly a pixel beside two values or a few flat colours."""
    flat = []
    for path in paths[:LOOKED_AT]:
        try:
            pixels = read_image(path).reshape(-1, 3)[::7]
        except BadData:
            continue
        counts = np.unique(pixels >> 4, axis=0, return_counts=True)[1]
        flat.append(np.sort(counts)[-4:].sum() >= 0.97 * counts.sum())
    return bool(flat) and all(flat)
