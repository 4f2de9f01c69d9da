"""Ray's token: whether it is required, where it is, and that only its owner can read it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.doctor.checks.findings import Result, failure, ok, warning

MODES = ("disabled", "token", "k8s")
MAKE = "`ray get-auth-token --generate`"


def token_file(environment: Mapping[str, str] = os.environ) -> Path:
    return Path(environment.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()


def is_on(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process requires a token when it starts or joins a cluster."""
    return environment.get("RAY_AUTH_MODE", "").lower() in ("token", "k8s")


def sound(
    starts_own: bool, num_nodes: int = 1, environment: Mapping[str, str] = os.environ
) -> Iterator[Result]:
    """Results on Ray's token; `starts_own`: Ray is started here, on loopback, and makes its own token."""
    mode = environment.get("RAY_AUTH_MODE", "").lower()
    if mode not in ("", *MODES):
        yield failure(f"RAY_AUTH_MODE is {mode}", f"set it to one of {', '.join(MODES)}")
    elif mode == "token" and not environment.get("RAY_AUTH_TOKEN"):
        yield from _kept(token_file(environment), starts_own)
    elif mode in ("", "disabled") and num_nodes > 1:
        yield warning(
            f"a cluster of {num_nodes} nodes without a token: anyone who reaches its ports can run programs there",
            f"{MAKE}, copy the file to every node, and set RAY_AUTH_MODE=token for `ray start` and the search",
        )
    elif starts_own and not mode:
        yield ok("the Ray that a search starts here creates its own token")
    else:
        yield ok(f"RAY_AUTH_MODE is {mode or 'not set'}")


def _kept(path: Path, starts_own: bool) -> Iterator[Result]:
    """Results for the file with Ray's token: missing, unreadable, empty, open to others, or valid."""
    try:
        content = path.read_text(encoding="utf-8").strip()
        is_open = _is_open(path)
    except FileNotFoundError:
        if starts_own:
            yield ok(f"Ray will create a token in {path}")
        else:
            yield failure(
                f"RAY_AUTH_MODE is token, but {path} is missing",
                f"copy it from the head's node, or {MAKE}",
            )
        return
    except OSError as error:
        yield failure(
            f"the token in {path} cannot be read: {error.strerror}", f"`chmod 600 {path}`, as its owner"
        )
        return
    if not content:
        yield failure(f"the token's file {path} is empty", f"remove it, then {MAKE}")
    elif is_open:
        yield warning(f"the token in {path} can be read by others", f"`chmod 600 {path}`")
    else:
        yield ok(f"the token is in {path}, readable only by its owner")


def _is_open(path: Path) -> bool:
    """Whether a file's group, or everybody, can read it: every parent folder must allow access."""
    path = path.resolve()
    for reads, passes in ((stat.S_IRGRP, stat.S_IXGRP), (stat.S_IROTH, stat.S_IXOTH)):
        if path.stat().st_mode & reads and all(_passes(folder, passes) for folder in path.parents):
            return True
    return False


def _passes(folder: Path, bit: int) -> bool:
    return bool(folder.stat().st_mode & bit)
