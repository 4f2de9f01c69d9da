"""A bundle at work on image files: a mask and an overlay for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from orchestrator.data.images import EXTENSIONS, read_image
from orchestrator.errors import BadData
from orchestrator.files import write_atomically
from orchestrator.results.bundle import Bundle
from orchestrator.results.overlay import outlined, png


def predict_files(
    bundle: Bundle,
    paths: Sequence[Path],
    out: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write NAME_mask.png (0 and 255, at the image's size) and NAME_overlay.png; return the masks' paths.

    A folder stands for the images in it. NAME is the file's stem; where stems clash, its path below the
    common folder with "_" for "/"; where that clashes too, it gets a number in front. Paths that hold no
    image, and masks or overlays that would replace an image, are refused before anything is written; files
    that do not decode are reported together (BadData) after all others are done, so that one bad file in a
    thousand does not cost the rest.
    """
    files = find_images(paths)
    names = unique_names(files)
    _refuse_to_replace(files, [out / f"{name}_{kind}.png" for name in names for kind in ("mask", "overlay")])
    out.mkdir(parents=True, exist_ok=True)
    masks, problems = [], []
    for done, (file, name) in enumerate(zip(files, names, strict=True), start=1):
        try:
            image = read_image(file)
        except BadData as bad:
            problems += [f"{bad.where}: {problem}" for problem in bad.problems]
        else:
            _, mask = bundle.predict(image)
            masks.append(out / f"{name}_mask.png")
            write_atomically(masks[-1], png(mask.astype(np.uint8) * 255), sync=False)
            write_atomically(out / f"{name}_overlay.png", png(outlined(image, mask)), sync=False)
        if on_progress:
            on_progress(done, len(files))
    if problems:
        told = f"{len(masks)} of {len(files)} images are done, in {out}; these are not"
        raise BadData(told, problems)
    return masks


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders as the images in them, each once; BadData names paths without an image."""
    files: list[Path] = []
    problems = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS)
            files += inside
            problems += [] if inside else [f"{path}: expected images ({', '.join(EXTENSIONS)}), found none"]
        elif path.is_file():
            files.append(path)
        else:
            problems.append(f"{path}: no such file or folder")
    if problems:
        raise BadData("images", problems)
    return list(dict.fromkeys(file.resolve() for file in files))


def unique_names(files: Sequence[Path]) -> list[str]:
    """A name for each file (absolute paths, each once), none twice even where letter case does not count."""
    names = [file.stem for file in files]
    if _all_differ(names):
        return names
    common = Path(os.path.commonpath([file.parent for file in files]))
    names = ["_".join(file.relative_to(common).with_suffix("").parts) for file in files]
    if _all_differ(names):
        return names
    return [f"{number:05d}_{file.stem}" for number, file in enumerate(files, start=1)]


def _refuse_to_replace(files: Sequence[Path], written: Sequence[Path]) -> None:
    """Raise BadData naming every image (absolute paths) that is also to be written."""
    images = set(files)
    if lost := [path for path in written if path.resolve() in images]:
        raise BadData("--out", [f"{path} is one of the images, and would be replaced" for path in lost])


def _all_differ(names: Sequence[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)
