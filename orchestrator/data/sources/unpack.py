"""Extraction of zip and tar archives; one with an unsafe member is rejected as a whole."""

from __future__ import annotations

import errno
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from orchestrator.common.display import Progress
from orchestrator.common.errors import BadData, BadMachine, MachineFault
from orchestrator.common.faults import FAULTS
from orchestrator.common.files import naming
from orchestrator.data.disguise import seems_to_be
from orchestrator.data.spelling import folded

MAX_MEMBERS = (
    1_000_000  # SUN-SEG has 49,136 frames with up to six annotations each; a member takes 1 kB of memory
)
MAX_BYTES = 64 << 30  # of all members, nested archives included; PolypGen, the largest, holds about 8 GB
BOMB_BYTES = 1 << 30  # size that is allowed at any ratio: masks alone shrink 500-fold
BOMB_RATIO = 100  # unpacked to packed, above BOMB_BYTES
MAX_NAME = 240  # bytes of a file's name; most file systems allow 255
TAR_PADDING = 1 << 20  # bytes after the last member of a tar; 10 kB are usual
CHUNK = 1 << 20

MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "tar"),
    (b"BZh", "tar"),
    (b"\xfd7zXZ\x00", "tar"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
)
READABLE = ("zip", "tar")

# Raised by zipfile, tarfile and their decoders for damaged archives.
READ_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, ValueError, LookupError, RuntimeError, OverflowError),
)


@dataclass(frozen=True)
class Member:
    """One file of an archive."""

    name: str  # with '/' between folders
    size: int  # bytes, as declared in the archive
    refused: str  # reason not to unpack it, or ""
    open: Callable[[], IO[bytes]]


def archive_kind(path: Path) -> str:
    """zip, tar, RAR or 7z by the first bytes of a file, whatever its name; "" for other files."""
    if not path.is_file():
        return ""  # a pipe would wait for a writer
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise BadData(str(path), f"cannot be read: {error.strerror}") from error
    if start[257:262] == b"ustar":
        return "tar"
    return next((kind for magic, kind in MAGIC if start.startswith(magic)), "")


def unpack(
    archive: Path,
    into: Path,
    *,
    room: int = MAX_BYTES,
    skipped: list[tuple[str, str]] | None = None,
    on_progress: Progress | None = None,
) -> int:
    """Write the files of a zip or tar below `into`; return their bytes, at most `room`.

    BadData lists every member that is absolute, leads outside, is a link or a device, is encrypted, damaged, or
    given twice, also where two names differ only in case or Unicode form. If `skipped` is a list, damaged members are
    left out and appended to it with the reason. A rejected archive writes nothing; after a damaged one the caller
    removes `into`.
    """
    with _opened(archive) as members:
        listed = _listed(archive, members, room)
        if problems := _problems(listed):
            raise BadData(str(archive), problems)
        total = sum(member.size for member in listed)
        into.mkdir(parents=True, exist_ok=True)
        if total > (free := shutil.disk_usage(into).free):
            missing = f"{total - free:,} are missing"
            raise BadMachine(
                str(archive), f"unpacks to {total:,} bytes, found {free:,} free below {into}: {missing}"
            )
        left = total
        for done, member in enumerate(listed, start=1):
            path = into / PurePosixPath(member.name)
            with _counted(into, left, total):
                damage = _write(member, path)
            if damage and skipped is not None:
                path.unlink(missing_ok=True)
                skipped.append((member.name, damage))
            elif damage:
                problems.append(f"{member.name!r} {damage}")
            left -= member.size
            if on_progress:
                on_progress(done, len(listed))
    if problems:
        raise BadData(str(archive), problems)
    return total


@contextmanager
def _counted(into: Path, left: int, total: int) -> Iterator[None]:
    """Context that adds the number of missing bytes to errors of a full disk or quota."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        missing = f"{left:,} of {total:,} bytes are still to be unpacked"
        raise MachineFault(
            str(into), f"{error.strerror}: {missing}; {FAULTS[error.errno]}, then give the same command again"
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[Member]]:
    kind = archive_kind(path)
    if kind not in READABLE:
        found = f"a {kind} archive; unpack it and add the folder" if kind else seems_to_be(path)
        found = found or "a file of another kind"
        raise BadData(str(path), f"expected a folder, a zip or a tar archive, found {found}")
    try:
        archive = zipfile.ZipFile(path) if kind == "zip" else tarfile.open(path)  # noqa: SIM115
    except READ_ERRORS as error:
        if isinstance(error, OSError) and error.errno in FAULTS:
            raise
        raise BadData(str(path), f"does not open as a {kind} archive: {_words(error)}") from error
    with archive:
        yield _zip_members(archive) if isinstance(archive, zipfile.ZipFile) else _tar_members(archive)


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if info.is_dir() or info.filename.endswith("\\"):
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        refused = ""
        if kind == stat.S_IFLNK:
            refused = "is a link; expected a file"
        elif kind not in (0, stat.S_IFREG):
            refused = "is neither a file nor a folder"
        elif info.flag_bits & 0x41:
            refused = "is encrypted; unpack the archive with its password and add the folder"
        name = _decoded(info.filename, "cp437") if not info.flag_bits & 0x800 else info.filename
        yield Member(name.replace("\\", "/"), info.file_size, refused, partial(archive.open, info))


def _decoded(name: str, read_as: str, errors: str = "strict") -> str:
    """A name without a declared encoding: as UTF-8 if valid, else as GB 2312, else unchanged."""
    if name.isascii():
        return name
    for encoding in ("utf-8", "gb2312"):
        with suppress(UnicodeError):
            return name.encode(read_as, errors).decode(encoding)
    return name


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if info.isdir():
            continue
        refused = ""
        if info.issym() or info.islnk():
            refused = "is a link; expected a file"
        elif not info.isreg():
            refused = "is neither a file nor a folder"
        yield Member(
            _decoded(info.name, "utf-8", "surrogateescape"),
            info.size,
            refused,
            partial(_tar_file, archive, info),
        )
    _read_to_the_end(archive)


def _read_to_the_end(archive: tarfile.TarFile) -> None:
    """Verify the checksum of a compressed stream, which follows the last block and is not read by tarfile itself."""
    stream = archive.fileobj
    assert stream is not None, "the archive is open"
    stream.seek(archive.offset)
    if len(stream.read(TAR_PADDING + 1)) > TAR_PADDING:
        raise tarfile.ReadError("has data after its end")


def _tar_file(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    assert file is not None, "only regular files get here"
    return file


def _listed(archive: Path, members: Iterator[Member], room: int) -> list[Member]:
    """All members; BadData as soon as their number or their bytes exceed the limits."""
    packed = archive.stat().st_size
    listed: list[Member] = []
    total = 0
    try:
        for member in members:
            listed.append(member)
            total += member.size
            if len(listed) > MAX_MEMBERS:
                raise BadData(str(archive), f"expected at most {MAX_MEMBERS:,} files, found more")
            if total > room:
                raise BadData(str(archive), f"expected at most {room:,} bytes when unpacked, found more")
            if total > max(BOMB_BYTES, BOMB_RATIO * packed):
                raise BadData(
                    str(archive),
                    f"unpacks to more than {BOMB_RATIO} times its {packed:,} bytes, like a decompression bomb; "
                    "if it is none, unpack it and add the folder",
                )
    except READ_ERRORS as error:
        raise BadData(str(archive), f"is damaged: {_words(error)}") from error
    if not listed:
        raise BadData(str(archive), "expected an archive with files, found none")
    return listed


def _problems(members: Sequence[Member]) -> list[str]:
    problems = [
        f"{member.name!r} {why}" for member in members if (why := member.refused or _bad_name(member))
    ]
    names: dict[PurePosixPath, list[str]] = defaultdict(list)
    for member in members:
        path = PurePosixPath(member.name)
        names[_key(path)].append(path.as_posix())
    problems += [
        f"{here[0]!r} occurs {len(here)} times"
        if len(set(here)) == 1
        else f"{', '.join(f'{name!a}' for name in here)} differ only in case or Unicode form; keep one"
        for here in names.values()
        if len(here) > 1
    ]
    folders = {parent for path in names for parent in path.parents}
    return problems + [f"{path.as_posix()!r} is a file and a folder" for path in names.keys() & folders]


def _bad_name(member: Member) -> str:
    path = PurePosixPath(member.name)
    if path.is_absolute() or member.name[1:2] == ":":
        return "has an absolute path; expected one below the archive"
    if ".." in path.parts:
        return "leads out of the archive"
    if not member.name.isprintable():
        return "has a name that cannot be printed"
    if any(len(part.encode()) > MAX_NAME for part in path.parts):
        return f"has a name of more than {MAX_NAME} bytes"
    return "" if path.parts else "has no name"


def _key(path: PurePosixPath) -> PurePosixPath:
    """The path as a file system treats it that ignores case and Unicode form."""
    return PurePosixPath(folded(path.as_posix()))


def _write(member: Member, path: Path) -> str:
    """Write a member; return the damage found, or ""."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    try:
        with naming(path), path.open("xb") as copy:
            for chunk in _chunks(member):
                left -= len(chunk)
                copy.write(chunk)
    except BadData as error:
        return error.problems[0]
    return f"is cut short by {left:,} bytes" if left else ""


def _chunks(member: Member) -> Iterator[bytes]:
    try:
        with member.open() as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except READ_ERRORS as error:
        if isinstance(error, OSError) and error.errno in FAULTS:
            raise
        raise BadData(member.name, f"is damaged: {_words(error)}") from error


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
