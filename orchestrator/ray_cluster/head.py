"""The head of a Ray cluster is looked at while a search runs: without it nothing is scheduled, or ended in order.

Ray ends a process that cannot reach the head for 60 seconds, at once and with exit code 1. Before that this one ends
by itself: it says what is to be mended, and with the exit code that scripts know. What is on record stays there.
Where a scheduler sends SIGTERM to all processes, the head is gone at once, and there is nothing left to wait for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.common.faults import fault_of
from orchestrator.common.hosts import why_silent
from orchestrator.common.interruption import asked, exit_code, seconds_since

logger = logging.getLogger(__name__)
LOOK_S = 3.0
# How long Ray asks for the head, how it is told otherwise, and how much earlier we end.
RAY_ASKS_S, RAY_ASKS = 60.0, "RAY_gcs_rpc_server_reconnect_timeout_s"
EARLIER_S = 15.0
HURRY_S = 5.0  # once a scheduler has asked this process to end
FAULT_CODE = 2


@contextmanager
def head_watched(address: str, end: Callable[[str], None] | None = None) -> Iterator[None]:
    """End this process once nobody has answered at the head's "host:port" for too long; `end` is given the reason."""
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(address, over, end or _end), name="head", daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()


def patience_s() -> float:
    """How long the head may be silent."""
    if seconds_since():
        return HURRY_S
    try:
        asks = float(os.environ.get(RAY_ASKS, RAY_ASKS_S))
    except ValueError:
        asks = RAY_ASKS_S
    return max(asks - EARLIER_S, asks / 2)


def _watch(address: str, over: threading.Event, end: Callable[[str], None]) -> None:
    silent_since = None
    while not over.wait(LOOK_S):
        silence, now = why_silent(address), time.monotonic()
        if silence is None:
            silent_since = None
            continue
        if silent_since is None:
            silent_since = now
            logger.warning("the head of the Ray cluster, %s, is silent: %s", address, silence)
        if now - silent_since > patience_s() and not over.is_set():
            fault = fault_of(f"the head of the Ray cluster, {address}", silence, "start the cluster again")
            end(str(fault))
            return


def _end(why: str) -> None:
    """At once: whatever is still to be said to Ray would wait for the head."""
    logger.error("%s", why)
    signum = asked()
    os._exit(FAULT_CODE if signum is None else exit_code(signum))
