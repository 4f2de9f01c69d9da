"""Content of a folder: images, other files, and files that operating systems leave behind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.data.images import EXTENSIONS

# Lower case; written by file managers, synchronisation and version control, never part of a dataset.
LITTER = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"),
    *("system volume information", "lost+found", "__pycache__", "#recycle"),
}
# Windows' alternate data streams become files on other systems: `1.jpg:Zone.Identifier`.
STREAM = re.compile(r".*:(zone\.identifier|encryptable|\$data|afp_\w+|com\.\w[\w.]*)")

# By suffix: files with frames that `read_image` does not read.
VIDEOS = {
    *(".3gp", ".asf", ".avi", ".divx", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
}
UNREAD_PICTURES = {
    *(".gif", ".heic", ".heif", ".avif", ".jp2", ".jfif", ".jxl", ".ppm", ".pgm", ".pnm"),
    *(".tga", ".svg", ".psd", ".exr", ".raw"),
}
DICOM = {".dcm", ".dicom"}
ARRAYS = {".nii", ".gz", ".mha", ".nrrd", ".npy", ".npz", ".mat"}


@dataclass(frozen=True)
class Contents:
    """Files by folder (relative, with '/', "" for the top), sorted by name; litter is listed separately."""

    files: dict[str, tuple[Path, ...]]
    litter: tuple[str, ...]  # relative paths of ignored files and folders
    # ignored folder -> the folder with the same content, "" for one that is not below the top
    linked: dict[str, str]

    def merged_with(self, other: Contents, place: str) -> Contents:
        """These contents and those of another folder, whose files are listed under its path."""

        def below(name: str) -> str:
            return f"{place}/{name}".rstrip("/")

        if place in self.files:
            return self
        return Contents(
            self.files | {below(name): paths for name, paths in other.files.items()},
            (*self.litter, *map(below, other.litter)),
            self.linked | {below(name): first and below(first) for name, first in other.linked.items()},
        )

    def linked_texts(self) -> Iterator[str]:
        """Texts such as `masks/loop (the same as images)`, one for each entry of `linked`."""
        for name, place in self.linked.items():
            yield f"{name} ({f'the same as {place}' if place else 'leads to a folder above'})"


def is_litter(name: str) -> bool:
    """Whether the name is one that operating systems leave behind, such as .DS_Store or 1.jpg:Zone.Identifier."""
    name = STREAM.sub("", name.lower()) or "."
    return name.startswith((".", "~$")) or name in LITTER


def is_image(path: Path) -> bool:
    """Whether the suffix, in any case, is one that `read_image` reads."""
    return path.suffix.lower() in EXTENSIONS


def _refuse(error: OSError) -> None:
    """Raise the error for a folder that cannot be listed, as it must not count as empty."""
    raise error


def contents_of(top: Path, on_count: Callable[[int], None] = lambda _: None) -> Contents:
    """Everything below `top`; links are followed, but no folder is entered twice, as with a link to a parent.

    `on_count` is called after each folder with the number of files so far, and may raise.
    """
    files: dict[str, tuple[Path, ...]] = {}
    litter: list[str] = []
    linked: dict[str, str] = {}
    entered: dict[str, str] = {}  # resolved -> relative
    count = 0
    for folder, folders, names in os.walk(top, followlinks=True, onerror=_refuse):
        here = _relative(folder, top)
        if (first := entered.setdefault(os.path.realpath(folder), here)) != here:
            linked[here] = first
            folders.clear()
            continue
        litter += [(Path(here) / name).as_posix() for name in (*folders, *names) if is_litter(name)]
        known = _read_elsewhere(top, Path(folder), [name for name in folders if not is_litter(name)])
        linked |= {(Path(here) / name).as_posix(): place for name, place in known.items()}
        folders[:] = sorted(name for name in folders if not is_litter(name) and name not in known)
        files[here] = tuple(Path(folder, name) for name in sorted(names) if not is_litter(name))
        count += len(files[here])
        on_count(count)
    return Contents(files, tuple(sorted(litter)), linked)


def _read_elsewhere(top: Path, folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Folders in `folder` that are read under another name -> that name, "" if it contains all of `top`.

    A link to a folder below `top` is ignored, but a link to a sibling is read under the name of the link.
    """
    root = Path(os.path.realpath(top))
    place_of: dict[str, str] = {}
    taken: dict[Path, str] = {}
    for name in sorted(names, key=lambda name: (not (folder / name).is_symlink(), name)):
        real = Path(os.path.realpath(folder / name))
        if root.is_relative_to(real):
            place_of[name] = "" if real != root else "."
        elif real in taken:
            place_of[name] = _relative(folder / taken[real], top)
        elif (folder / name).is_symlink() and real.is_relative_to(root) and not _is_neighbour(real, folder):
            below = real.relative_to(root)
            if not any(map(is_litter, below.parts)):
                place_of[name] = below.as_posix()
        taken.setdefault(real, name)
    return place_of


def _is_neighbour(real: Path, folder: Path) -> bool:
    return real.parent == Path(os.path.realpath(folder))


def _relative(folder: str | Path, top: Path) -> str:
    here = Path(folder).relative_to(top).as_posix()
    return "" if here == "." else here
