"""Small published-looking archives: files by relative path, as a folder, a zip or a tar."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

Content = np.ndarray | bytes

HEIGHT, WIDTH = 24, 32
FRAME = np.full((HEIGHT, WIDTH, 3), (200, 90, 60), np.uint8)
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[8:16, 10:20] = 255
EMPTY = MASK * 0


def write_tree(folder: Path, files: Mapping[str, Content]) -> Path:
    """Arrays as images in the format of their suffix, bytes as they are."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix.lower() in (".tif", ".tiff"):
            tifffile.imwrite(
                path, content, photometric="minisblack", planarconfig="contig"
            )  # as CVC-ClinicDB
        else:
            Image.fromarray(content).save(path)
    return folder


def zipped(folder: Path, path: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def tarred(folder: Path, path: Path) -> Path:
    """Compressed as the suffix says."""
    mode = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, arcname=".")
    return path
