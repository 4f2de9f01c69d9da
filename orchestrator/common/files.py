"""Files and folders that appear whole or not at all, whatever is killed, or full, in between.

What is being written is hidden beside its place (`.NAME.PID.partial`) and goes away at once if writing fails, so that
a full disk does not fill further. An `OSError` from here names the file; Python's own does not when a write fails.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"


def partial_of(path: Path) -> Path:
    """Where this process writes what is to become `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an `OSError` that names no file name this one, also where a library hides it behind an error of its own."""
    try:
        yield
    except Exception as error:
        behind: BaseException | None = error
        while behind is not None:
            if isinstance(behind, OSError) and behind.filename is None and behind.errno is not None:
                behind.filename = str(path)
            behind = behind.__context__
        raise


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` at the end; `sync`: it is forced to disk before."""
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
    """Replace `path` by `content`: a reader sees the old bytes or the new ones, never a part."""
    with replacing(path, sync=sync) as file:
        file.write(content)


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill, which becomes `folder` at the end; one that is there already is left as it is."""
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
def hidden_beside(folder: Path) -> Iterator[Path]:
    """A hidden folder beside another one, to be filled and moved; what is left of it goes away at the end.

    Those that killed processes have left are swept first: whoever fills one holds its lock.
    """
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*{PARTIAL}"):
        with suppress(OSError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    partial.mkdir()
    try:
        with ExitStack() as held:
            with suppress(OSError):  # a file system without locks: nobody can sweep there
                held.enter_context(_locked(partial))
            yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder alone, until its process ends at the latest. Raises `OSError` where somebody else does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def append(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Add `content` at the end of a file, all of it or, where that fails, nothing; `sync`: it is forced to disk."""
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
    """A folder that its user alone can read, made if it is missing; None where it cannot be had, or is another's."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return path if is_ours and os.access(path, os.W_OK) else None


def size_text(num_bytes: float) -> str:
    """1234567 -> 1.2 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} bytes" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"
