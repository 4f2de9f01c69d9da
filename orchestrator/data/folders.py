"""What lies below a folder: images, other files, and what operating systems leave behind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.data.images import EXTENSIONS

# Lower case; file managers, synchronisation and version control write them, nobody means them to be read.
LITTER = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"),
    *("system volume information", "lost+found", "__pycache__", "#recycle"),
}
# What Windows keeps beside a file becomes a file of its own on other systems: `1.jpg:Zone.Identifier`.
STREAM = re.compile(r".*:(zone\.identifier|encryptable|\$data|afp_\w+|com\.\w[\w.]*)")

# By suffix: what holds frames that `read_image` does not read.
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
    """Files by folder, relative with '/' and "" for the top, in the order of their names; litter apart."""

    files: Mapping[str, tuple[Path, ...]]
    litter: tuple[str, ...]  # relative paths of files and whole folders that were passed over


def is_litter(name: str) -> bool:
    """Whether an operating system left a file or folder of that name, as .DS_Store or 1.jpg:Zone.Identifier."""
    name = STREAM.sub("", name.lower()) or "."
    return name.startswith((".", "~$")) or name in LITTER


def is_image(path: Path) -> bool:
    """Whether the suffix is one of an image that `read_image` reads, in any case."""
    return path.suffix.lower() in EXTENSIONS


def _refuse(error: OSError) -> None:
    """A folder that cannot be listed is no empty one."""
    raise error


def contents_of(top: Path, on_count: Callable[[int], None] = lambda _: None) -> Contents:
    """Everything below `top`; links are followed, but no folder is entered twice.

    `on_count` is called after each folder with the number of files so far, and may raise.
    """
    files: dict[str, tuple[Path, ...]] = {}
    litter: list[str] = []
    entered = set()
    count = 0
    for folder, folders, names in os.walk(top, followlinks=True, onerror=_refuse):
        entered.add(os.path.realpath(folder))
        here = Path(folder).relative_to(top)
        litter += [(here / name).as_posix() for name in (*folders, *names) if is_litter(name)]
        folders[:] = sorted(
            name
            for name in folders
            if not is_litter(name) and os.path.realpath(Path(folder, name)) not in entered
        )
        relative = "" if here == Path() else here.as_posix()
        files[relative] = tuple(Path(folder, name) for name in sorted(names) if not is_litter(name))
        count += len(files[relative])
        on_count(count)
    return Contents(files, tuple(sorted(litter)))
