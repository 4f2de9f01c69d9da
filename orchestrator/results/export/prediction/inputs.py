"""Images and videos for `predict`, names of their results, and files passed over with the reason."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.common.errors import BadData
from orchestrator.data.images import EXTENSIONS
from orchestrator.data.sources.folders import DICOM, UNREAD_PICTURES, VIDEOS, contents_of, is_image, is_litter
from orchestrator.data.spelling import folded
from orchestrator.results.export.prediction.measured import HEADER

OTHER_KINDS = {
    "DICOM: export its frames as PNG first": DICOM,
    "archive: unpack it first": (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz"),
    "image of a format that is not read: save it as PNG first": UNREAD_PICTURES,
}
TABLE = "polyps.csv"
RESULTS = tuple(f"_{kind}.png" for kind in ("mask", "overlay", "probability")) + tuple(
    f"_{kind}" for kind in ("mask.mkv", "overlay.mp4", "probability.mkv")
)
SHOWN = 10  # names in a message
MAX_NAME = 200  # bytes; file systems take 255, and results have longer names


@dataclass(frozen=True)
class Inputs:
    """Absolute paths of images and videos with names for their results; other files, with the reason."""

    images: tuple[Path, ...]
    names: tuple[str, ...]
    passed_over: Mapping[Path, str]  # "" for a plain file of another kind

    def passed_over_line(self) -> str:
        """Sentence on the files that were passed over; empty if none was."""
        if not self.passed_over:
            return ""
        count = len(self.passed_over)
        listed = [f"{path.name} ({why})" if why else path.name for path, why in self.passed_over.items()]
        more = f" and {count - SHOWN} more" if count > SHOWN else ""
        return f"passed over {count} file{'' if count == 1 else 's'}: {', '.join(listed[:SHOWN])}{more}"


def find_inputs(paths: Sequence[Path], out: Path | None = None) -> Inputs:
    """Images and videos of paths: files as given, of folders all below them, but not below `out`.

    Raises `BadData`, all at once, for paths that do not exist, and folders without an image, with what they
    hold.
    """
    found: dict[Path, Path] = {}  # resolved -> as given
    passed_over: dict[Path, str] = {}
    problems: list[str] = []
    for path in map(_absolute, paths):
        if not os.path.lexists(path):
            problems.append(f"{path}: no such file or folder")
            continue
        images, others = _sorted_out(path, out)
        if path.is_dir() and not images:
            problems.append(f"{path}: {_none(others)}")
        for image in images:
            found.setdefault(image.resolve(), image)
        passed_over |= others
    if not found and not problems:
        problems.append(_none(passed_over))
    if problems:
        raise BadData("images", problems)
    files = tuple(found.values())
    return Inputs(files, unique_names(files, _base(paths)), passed_over)


def refusal(path: Path, *, named: bool = False) -> str | None:
    """Reason why a file is no image or video by its kind, "" for a plain file; None if it may be one.

    `named`: given by a user, so that one of an unknown kind may be an image.
    """
    suffix = path.suffix.lower()
    if path.is_symlink() and not path.exists():
        return "symbolic link to nothing"
    if not path.is_file():
        return "neither a file nor a folder"
    if is_image(path) or is_video(path):
        return None
    known = (why for why, suffixes in OTHER_KINDS.items() if suffix in suffixes)
    return next(known, None if named and not is_litter(path.name) else "")


def has_results(files: Sequence[Path]) -> bool:
    """Whether the table of a prediction is among the files of a folder."""
    found = next((file for file in files if file.name == TABLE), None)
    if found is None:
        return False
    with found.open("rb") as text:
        return text.read(1000).startswith(",".join(HEADER).encode())


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS


def unique_names(files: Sequence[Path], base: Path) -> tuple[str, ...]:
    """Paths below `base` without suffix; where two would be alike, ignoring case, with it, then with digits.

    The name for a file does not depend on the number of the other files, or on their order.
    """
    relative = [file.relative_to(base) for file in files]
    levels = [0] * len(files)
    while True:
        names = [_name(path, level) for path, level in zip(relative, levels, strict=True)]
        times = Counter(folded(name) for name in names)
        if len(times) == len(names):
            return tuple(names)
        levels = [
            level + (times[folded(name)] > 1 and level < 2) for name, level in zip(names, levels, strict=True)
        ]


def _name(path: Path, level: int) -> str:
    """Name of a result: a/b for a/b.png; at level 1 a/b.png; at 2, or if too long, with six digits."""
    name = path.name if level else path.stem
    if level == 2 or len(os.fsencode(name)) > MAX_NAME:
        digits = hashlib.sha256(os.fsencode(path)).hexdigest()[:6]
        name = f"{os.fsdecode(os.fsencode(name)[:MAX_NAME])}.{digits}"
    return (path.parent / name).as_posix()


def _sorted_out(path: Path, out: Path | None) -> tuple[list[Path], dict[Path, str]]:
    """Images that a path stands for, and its other files with the reason to pass them over."""
    if not path.is_dir():
        why = refusal(path, named=True)
        return ([path], {}) if why is None else ([], {path: why})
    apart = None if out is None or out.resolve() == path.resolve() else out.resolve()
    images: list[Path] = []
    others: dict[Path, str] = {}
    num_results = 0
    contents = contents_of(path)
    earlier = {path / name for name, files in contents.files.items() if has_results(files)}
    for file in (file for files in contents.files.values() for file in files):
        if apart is not None and apart in file.resolve().parents:
            num_results += 1
        elif file.name.endswith(RESULTS) and earlier.intersection(file.parents):
            others[file] = "result of an earlier prediction"
        elif (why := refusal(file)) is None:
            images.append(file)
        else:
            others[file] = why
    for name, place in contents.linked.items():
        others[path / name] = f"the same folder as {place}" if place else "link to a folder above"
    if num_results and out is not None:
        others[out] = f"where results go, with {num_results} files"
    return images, others


def _none(others: Mapping[Path, str]) -> str:
    listed = Inputs((), (), others).passed_over_line()
    return f"expected images ({', '.join(EXTENSIONS)}) or videos, found none{'; ' + listed if listed else ''}"


def _base(paths: Sequence[Path]) -> Path:
    """Folder relative to which results are placed: the one that was given, or the parent of several paths."""
    folders = [path if path.is_dir() else path.parent for path in map(_absolute, paths)]
    return Path(os.path.commonpath(folders))


def _absolute(path: Path) -> Path:
    """Absolute path without following links, since results are named as the images were."""
    return Path(os.path.normpath(path.absolute()))
