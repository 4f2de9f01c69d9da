"""Atomic creation of files and folders: complete or absent, even if the process is killed or the disk is full.

Data is first written to a hidden path next to the target (`.NAME.PID.partial`), which is removed if writing fails, so
that a full disk does not fill further. An `OSError` from here names the file; Python's own does not for writes.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from orchestrator.common.errors import BadData

PARTIAL = ".partial"


def partial_of(path: Path) -> Path:
    """Path to which this process writes before renaming to `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Context that adds this file name to an `OSError` without one, also behind another exception of a library."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.filename is None and cause.errno is not None:
                cause.filename = str(path)
            cause = cause.__context__
        raise


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` at the end; `sync`: flushed to disk before."""
    partial = partial_of(path)
    try:
        with naming(path):
            with partial.open("wb") as file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replace `path` by `content`: readers see the old bytes or the new ones, never a part."""
    with replacing(path, sync=sync) as file:
        file.write(content)


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill, which becomes `folder` at the end; an existing `folder` is not changed."""
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with naming(folder):
            partial.mkdir(parents=True)
            yield partial
            try:
                partial.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
                shutil.rmtree(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def hidden_folder_for(folder: Path) -> Iterator[Path]:
    """A hidden folder next to another one, to be filled and moved; what remains of it is removed at the end.

    Folders that killed processes left are removed first: a running process holds the lock of its folder.
    """
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*{PARTIAL}"):
        with suppress(OSError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    partial.mkdir()
    try:
        with ExitStack() as locks:
            with suppress(OSError):  # a file system without locks, on which nothing is removed
                locks.enter_context(_locked(partial))
            yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on a folder, until the process ends at the latest. `OSError` if another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def append(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Append `content` to a file, completely or, on failure, not at all; `sync`: flushed to disk."""
    with naming(path), path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
            if sync:
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def private_folder(path: Path) -> Path | None:
    """A folder that only its user can read, created if missing; None if impossible, or if another user owns it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return path if is_ours and os.access(path, os.W_OK) else None


def size_text(num_bytes: float) -> str:
    """Text for a number of bytes: 1234567 -> 1.2 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} bytes" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"


def refuse_as_output(path: Path, where: str, *, folder: bool = False) -> None:
    """Raises `BadData` where no file, or folder, could be written at a path; asked before work begins.

    `where`: the option. Folders above it need not exist; nothing is left behind.
    """
    wanted = "folder" if folder else "file"
    if path.exists() and path.is_dir() is not folder:
        found = "file" if folder else "folder"
        raise BadData(f"{where} {path}", f"expected a {wanted}, or a name that is free, found a {found}")
    above = path if folder and path.exists() else path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise BadData(f"{where} {path}", f"expected a folder at {above}, found a file; name another place")
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise BadData(
            f"{where} {path}",
            f"expected a place where files can be written, found {above}: {error.strerror}; name another place",
        ) from error
