"""Published archives, as downloaded or unpacked: pairs of frames and masks, with groups and centers.

Names of archives are ignored, only the folders and files inside count; layouts.py describes the layout of each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from lzma import LZMAError
from pathlib import Path
from shutil import rmtree
from tarfile import is_tarfile
from zlib import error as ZlibError

from orchestrator.common.display import Progress
from orchestrator.common.errors import BadData
from orchestrator.data.outlines.draw import draw_masks, drawn_remark
from orchestrator.data.outlines.read import read_outlines
from orchestrator.data.sources.collect import Found, collect
from orchestrator.data.sources.folders import Contents, contents_of, is_image, is_litter
from orchestrator.data.sources.match import check_pattern
from orchestrator.data.sources.refusal import nothing_fits
from orchestrator.data.sources.sets import AS_FOUND, Folders, SourceOptions, Task, chosen, find_sets
from orchestrator.data.sources.unpack import MAX_BYTES, READABLE, archive_kind, unpack
from orchestrator.data.unusable import Bad

MAX_FILES = 1_000_000  # of a folder; SUN-SEG has 158,690 frames with up to six files each
MAX_NESTED = (
    2  # depth of archives in archives, as in copies of the PraNet bundle; a third level suggests a bomb
)


@contextmanager
def open_source(
    source: Path,
    staging: Path,
    reading: SourceOptions = AS_FOUND,
    command: str = "orchestrator data add NAME PATH",
    on_progress: Progress | None = None,
) -> Iterator[Found]:
    """The pairs of a folder or an archive; archives are unpacked into `staging`, which is removed afterwards.

    `command` is completed in errors to one that would work. BadData if no layout fits, or if several sets are found and
    `reading` selects none.
    """
    if not source.exists():
        raise BadData(str(source), "expected a folder, a zip or a tar archive, found nothing there")
    if reading.pattern:
        check_pattern(reading.pattern)
    rmtree(staging, ignore_errors=True)
    try:
        yield _recognise(source, staging, reading, command, on_progress)
    finally:
        rmtree(staging, ignore_errors=True)


def _recognise(
    source: Path, staging: Path, reading: SourceOptions, command: str, on_progress: Progress | None
) -> Found:
    top = source
    written = 0
    # members of archives that do not unpack: (name, reason)
    damaged: list[tuple[str, str]] | None = [] if reading.skip_bad else None
    if not source.is_dir():
        top = staging
        written += unpack(source, staging, skipped=damaged, on_progress=on_progress)
    for level in range(MAX_NESTED + 1):
        contents, reading = _resolved(_contents(top, source), top, reading)
        archives = _archives(contents.files)
        sets, problem = _tried(contents, reading)
        if sets or not archives:
            break
        if level == MAX_NESTED:
            raise BadData(
                str(source), f"archives in archives, more than {MAX_NESTED} deep; unpack them first"
            )
        for archive in archives:
            inside = staging / _unpacked_name(archive.relative_to(top))
            bytes_left = MAX_BYTES - written
            written += unpack(archive, inside, room=bytes_left, skipped=damaged, on_progress=on_progress)
            _unnest(inside)
            if top == staging:
                archive.unlink()
        top = staging
    contents, sets, remarks = _with_drawn_masks(contents, sets, reading, staging)
    if not sets:
        raise problem or BadData(str(source), nothing_fits(command, contents.files))
    picked = chosen(str(source), command, sets, reading)
    views = {folders.layout.view for folders in picked}
    read = [folders for folders in sets if folders.layout.view in views]
    known = {folder for folders in read for folder in (folders.images, *folders.masks)}
    task = Task(str(source), command, reading, contents.files, staging)
    found = collect(task, picked, known, contents)
    bad = [Bad(name, why, Path(name).stem) for name, why in damaged or ()]
    return replace(
        found, temporary=top == staging, bad=(*bad, *found.bad), remarks=(*remarks, *found.remarks)
    )


def _with_drawn_masks(
    contents: Contents, sets: Sequence[Folders], reading: SourceOptions, staging: Path
) -> tuple[Contents, Sequence[Folders], list[str]]:
    """Contents, sets, remarks: as given, or, without sets, with masks drawn from LabelMe or COCO outlines."""
    if sets or reading.named or (outlines := read_outlines(contents.files)) is None:
        return contents, sets, []
    drawn = draw_masks(outlines, contents.files, staging / "drawn masks")
    contents = replace(contents, files=contents.files | drawn)
    return contents, _tried(contents, reading)[0], [drawn_remark(outlines)]


def _tried(contents: Contents, reading: SourceOptions) -> tuple[Sequence[Folders], BadData | None]:
    """The sets, or the error for a folder that the user names and that is missing; it may still be in an archive."""
    try:
        return find_sets(contents.files, reading), None
    except BadData as problem:
        return [], problem


def _contents(top: Path, source: Path) -> Contents:
    """All files below `top`; BadData if there are too many for a dataset."""

    def refuse_many(count: int) -> None:
        if count > MAX_FILES:
            raise BadData(str(source), f"expected at most {MAX_FILES:,} files, found more; name one dataset")

    return contents_of(top, refuse_many)


def _resolved(contents: Contents, top: Path, reading: SourceOptions) -> tuple[Contents, SourceOptions]:
    """Contents and reading in which named folders are relative if they lie in the source, and included if elsewhere."""
    named = {"images": reading.images, "masks": reading.masks}
    for option, wanted in list(named.items()):
        path = next(
            (path for path in (top / wanted, Path(wanted).expanduser()) if wanted and path.is_dir()), None
        )
        if path is None:
            continue  # a folder below the source, or a missing one
        if (inside := _inside(path, top, contents)) is not None:
            named[option] = inside
        else:
            named[option] = str(path.resolve())
            contents = contents.merged_with(_contents(path.resolve(), path), named[option])
    return contents, replace(reading, images=named["images"], masks=named["masks"])


def _inside(path: Path, top: Path, contents: Contents) -> str | None:
    """Name of a folder within the source, "." for the top; None if it lies elsewhere."""
    for here, root in (
        (_absolute(path), _absolute(top)),
        (path.resolve(), top.resolve()),
    ):
        if here.is_relative_to(root):
            name = here.relative_to(root).as_posix()
            name = contents.linked.get(name, name)
            if name == "." or any(f"{folder}/".startswith(f"{name}/") for folder in contents.files):
                return name
    return None


def _absolute(path: Path) -> Path:
    """The normalised path, links not followed."""
    return Path(os.path.normpath(path.absolute()))


def _archives(files: Mapping[str, Sequence[Path]]) -> list[Path]:
    return [
        path
        for paths in files.values()
        for path in paths
        if path.is_file() and not is_image(path) and archive_kind(path) in READABLE and not _is_one_file(path)
    ]


def _is_one_file(path: Path) -> bool:
    """Whether this is a single compressed file, such as 1.nii.gz, and no archive."""
    if path.suffix.lower() not in (".gz", ".bz2", ".xz") or ".tar" in path.name.lower():
        return False
    try:
        return not is_tarfile(path)
    except (OSError, EOFError, ValueError, LZMAError, ZlibError):
        return True


def _unpacked_name(archive: Path) -> Path:
    """a/images.tar.gz -> a/images; a name without suffix gets one more letter, because the archive still exists."""
    stem = archive.name.split(".")[0]
    return archive.with_name(stem if stem and stem != archive.name else f"{archive.name}_")


def _unnest(folder: Path) -> None:
    """Rename masks/masks/1.png -> masks/1.png, where masks.zip contained only a folder of its own name."""
    inner = folder / folder.name
    if inner.is_dir() and all(path == inner or is_litter(path.name) for path in folder.iterdir()):
        outer = folder.rename(folder.with_name(f"{folder.name} outside"))
        (outer / folder.name).rename(folder)
        rmtree(outer)
