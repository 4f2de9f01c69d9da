"""The home: it is writable, shared by all nodes, and has locks that work across nodes."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.common.faults import FAULTS, fault_in_words
from orchestrator.doctor.checks.findings import Result, failure, ok, warning
from orchestrator.doctor.checks.resources import networked

PREFIX = ".doctor-"
SEEN_WITHIN_S = 5.0  # limit for a file to become visible on another node
OLD_S = 3600.0  # age of files left by a killed check


@dataclass(frozen=True)
class Token:
    """A locked file in the home with a random number, written by the driver."""

    path: Path
    content: str


def writable(folder: Path) -> Iterator[Result]:
    """Whether a file can be written into a folder, or into its nearest existing parent."""
    try:
        with tempfile.TemporaryFile(dir=nearest(folder), prefix=PREFIX) as file:
            file.write(os.urandom(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield failure(f"{folder} cannot be written to: {error.strerror}", _remedy(error))
        return
    yield ok(f"{folder} can be written to")


def nearest(folder: Path) -> Path:
    """The folder itself, or its nearest existing parent."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _remedy(error: OSError) -> str:
    known = FAULTS.get(error.errno or 0) or ("" if fault_in_words(str(error)) is None else "check its disk")
    return known or f"give its folder to user {os.getuid()}, or set another one with --home or --cache"


@contextmanager
def token_in(home: Path) -> Iterator[Token]:
    """Context with a token that is written and locked. Raises errors of the file system."""
    home.mkdir(parents=True, exist_ok=True)
    _sweep(home)
    token = Token(home / f"{PREFIX}{secrets.token_hex(8)}", secrets.token_hex(16))
    try:
        with token.path.open("w", encoding="utf-8") as file:
            file.write(token.content)
            file.flush()
            os.fsync(file.fileno())
            with suppress(OSError):  # reported by `locks`
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield token
    finally:
        for path in home.glob(f"{token.path.name}*"):
            path.unlink(missing_ok=True)


def same(token: Token, node: str) -> Iterator[Result]:
    """Whether this node sees the driver's token; its answer is written next to it for the driver."""
    found = _read_soon(token.path)
    if found is None or found != token.content:
        what = "is missing" if found is None else "has other content"
        yield failure(
            f"{token.path.parent} is not the driver's: a file that the driver wrote {what}",
            f"mount the same file system at {token.path.parent} on this node, or set a shared folder with --home",
        )
        return
    try:
        answer_of(token, node).write_text(token.content, encoding="utf-8")
    except OSError as error:
        yield failure(f"{token.path.parent} cannot be written to: {error.strerror}", _remedy(error))
        return
    kind = networked(token.path)
    yield ok(f"{token.path.parent} is the driver's{f', on {kind}' if kind else ''}")


def answered(token: Token, node: str) -> bool:
    """Whether the driver sees the file that a node wrote."""
    return _read_soon(answer_of(token, node)) == token.content


def answer_of(token: Token, node: str) -> Path:
    name = "".join(letter if letter.isalnum() else "-" for letter in node)
    return token.path.with_name(f"{token.path.name}.{name}")


def locks(token: Token) -> Iterator[Result]:
    """Whether locks work in the home, and whether the driver's lock is effective here."""
    remedy = "mount it with locks (NFS 4, or lockd; Lustre: -o flock), or use another --home"
    try:
        with token.path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield ok("locks in the home work across nodes")
        return
    except FileNotFoundError:
        return  # reported by `same`
    except OSError as error:
        yield failure(f"files in {token.path.parent} cannot be locked: {error.strerror}", remedy)
        return
    yield warning(
        f"a lock on a file in {token.path.parent} is effective on one node only: two searches of one study on two "
        "nodes would not notice each other",
        remedy,
    )


def places(home: Path, cache: Path, is_tracked_there: bool) -> Iterator[Result]:
    """Warnings for decoded images on a network file system, and for MLflow's database if there is no server."""
    kind = networked(home)
    if kind and is_tracked_there:
        yield warning(
            f"MLflow's database is a SQLite file in {home}, on {kind}, where it is unreliable",
            "set a server with MLFLOW_TRACKING_URI",
        )
    if cache_kind := networked(cache):
        yield warning(
            f"decoded images are stored in {cache}, on {cache_kind}, and read in every epoch",
            "set a folder on a local disk with --cache or ORCHESTRATOR_CACHE",
        )
    if not cache_kind and not (kind and is_tracked_there):
        yield ok(f"decoded images are stored on a local disk, in {cache}")


def host() -> str:
    return socket.gethostname()


def _read_soon(path: Path) -> str | None:
    """The text of a file, waiting until it exists: a network file system may show it a moment later."""
    deadline = time.monotonic() + SEEN_WITHIN_S
    while True:
        with suppress(OSError):
            any(path.parent.iterdir())  # makes some file systems refresh
            return path.read_text(encoding="utf-8")
        if time.monotonic() > deadline:
            return None
        time.sleep(0.2)


def _sweep(home: Path) -> None:
    for path in home.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > OLD_S:
                path.unlink()
