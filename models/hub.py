"""Whether the model hub can be reached, found out in seconds rather than by the minute of retries of its client."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

CONNECT_S = 5.0


@contextmanager
def without_waiting() -> Iterator[None]:
    """Context in which files of the hub come from the local cache alone where the hub cannot be reached.

    OSError, at once: it cannot, and a file is not in the cache. A proxy is left to try itself.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or getproxies() or (unreached := _why_unreached(constants.ENDPOINT)) is None:
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{constants.ENDPOINT} cannot be reached: {unreached}; no copy is in the cache"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = False


def _why_unreached(endpoint: str) -> str | None:
    """Why nothing answers there, None where something does."""
    parts = urlsplit(endpoint)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S).close()
    except OSError as error:
        return str(error)
    return None
