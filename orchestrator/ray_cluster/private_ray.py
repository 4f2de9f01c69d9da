"""A private Ray for one search on one machine, unreachable for others on the network or the machine.

Its ports listen on the loopback interface, its clients need a token, and its files are in a folder of its user.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from orchestrator.common.errors import BadMachine
from orchestrator.common.files import private_folder
from orchestrator.common.private_api import private
from orchestrator.launch.environment import environment

logger = logging.getLogger(__name__)
# The kernel's limit for the path of a socket, and Ray's name of one below its temporary folder.
LONGEST_SOCKET = 107
SOCKET = "session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
# Ray makes its temporary folder writable for everybody: it is one below the folder that only its user can open.
INNER = "r"


@contextmanager
def isolated() -> Iterator[None]:
    """Context in which a new Ray listens only on the loopback interface, and requires a token."""
    with ExitStack() as stack:
        # addresses of another Ray, which processes of this one would use
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            stack.enter_context(environment(name, None))
        if sys.platform == "linux":  # interface on which workers of a fit listen for each other
            for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                stack.enter_context(environment(name, os.environ.get(name, "lo")))
        stack.enter_context(_no_cluster())
        require_token()
        yield


@contextmanager
def _no_cluster() -> Iterator[None]:
    """Context in which Ray keeps 127.0.0.1, as on Windows, instead of replacing it by the machine's address."""
    ray_constants = private("ray_constants")
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def require_token() -> None:
    """Make Ray require a token from clients, unless RAY_AUTH_MODE is set.

    The token is the user's own from `~/.ray/auth_token`, created if missing, or that of RAY_AUTH_TOKEN or
    RAY_AUTH_TOKEN_PATH.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        _keep_token(Path.home() / ".ray" / "auth_token")
    os.environ["RAY_AUTH_MODE"] = "token"
    private("RayConfig").initialize("")  # because it was read when Ray was imported


def _keep_token(file: Path) -> None:
    """Create a missing token that only its user can read; Ray itself would create one readable for everybody."""
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
            written.write(secrets.token_hex(32))
    except FileExistsError:
        if file.stat().st_mode & 0o077:
            logger.warning("%s was readable by others on this machine; this is now corrected", file)
            file.chmod(0o600)
    except OSError as refused:
        logger.warning("no token can be stored for this Ray, which uses one of its own: %s", refused)
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def temp_folder() -> Path:
    """A folder for Ray, in one that only its user can open, with a path short enough for Ray's sockets.

    Raises `BadMachine` if RAY_TMPDIR is too long, or no folder can be created.
    """
    name, given = f"ray-of-{os.getuid()}", os.environ.get("RAY_TMPDIR")
    top_folder = given or os.environ.get("TMPDIR") or "/tmp"
    advice = "set RAY_TMPDIR to a short folder of your own, such as /tmp/ray-me"
    if given is not None and not _is_short(Path(given, name)):
        raise BadMachine("RAY_TMPDIR", f"{given} is too long for the paths of Ray's sockets; {advice}")
    for top in (top_folder, "/tmp", "/var/tmp", "/dev/shm"):
        if not _is_short(Path(top, name)):
            continue
        folder = private_folder(Path(top, name))
        if folder is None and os.access(top, os.W_OK):  # another user has this name
            folder = Path(tempfile.mkdtemp(prefix="ray-", dir=top))
        if folder is not None:
            if top != top_folder:
                logger.warning("the path of TMPDIR is too long for Ray's sockets: Ray uses %s", folder)
            return folder / INNER
    raise BadMachine(
        "TMPDIR", f"no folder for Ray's sockets: {top_folder} is too long or not writable; {advice}"
    )


def _is_short(folder: Path) -> bool:
    return len(os.fsencode(folder / INNER / SOCKET.format(pid=os.getpid()))) <= LONGEST_SOCKET
