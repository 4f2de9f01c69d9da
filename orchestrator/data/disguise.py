"""The true kind of a file that claims to be an image or an archive, from its first bytes."""

from __future__ import annotations

from pathlib import Path

STARTS = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer instead of the file itself; fetch that with `git lfs pull`",
    ),
    (b"/annex/objects/", "a git-annex pointer instead of the file itself; fetch that with `git annex get`"),
    (b"<!doctype html", "a web page, left by a failed download; download it again"),
    (b"<html", "a web page, left by a failed download; download it again"),
    (b"%pdf", "a PDF file"),
    (b"pk\x03\x04", "a zip archive"),
    (b"rar!\x1a\x07", "a RAR archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"gif8", "a GIF picture; convert it to PNG"),
    (b"\x89hdf", "an HDF5 file"),
    (b"\x93numpy", "a NumPy array; save it as PNG"),
)
BRANDS = ((b"hei", "a HEIC picture; convert it to PNG"), (b"avi", "an AVIF picture; convert it to PNG"))


def seems_to_be(path: Path) -> str:
    """Kind of a file, such as `an empty file`; "" if it is not recognised, or does not exist."""
    try:
        if path.exists() and not path.is_file():  # a pipe would wait for a writer
            return "neither a file nor a folder"
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return ""
    if not start:
        return "an empty file"
    lower = start.lstrip().lower()
    if found := next((what for begin, what in STARTS if lower.startswith(begin)), ""):
        return found
    if start[4:8] == b"ftyp":
        return next(
            (what for brand, what in BRANDS if start[8:].startswith(brand)), "a video; extract its frames"
        )
    if start[128:132] == b"DICM":
        return "a DICOM file; convert it to PNG"
    return "filled with zeros, as left by an interrupted copy" if not start.strip(b"\0") else ""
