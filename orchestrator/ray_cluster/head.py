"""Monitoring of a Ray cluster's head during a search: without it nothing can be scheduled or ended properly.

Ray kills a process that cannot reach the head for 60 seconds, with exit code 1. Before that this process ends itself,
with a remedy and a documented exit code. Recorded results are kept. Where a scheduler sends SIGTERM to all processes,
the head is gone at once, and waiting is useless.
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
from orchestrator.common.interruption import exit_code, requested_signal, seconds_since

logger = logging.getLogger(__name__)
CHECK_S = 3.0
# Ray's time limit for reconnecting to the head, the variable that sets it, and our margin.
RAY_TIMEOUT_S, RAY_TIMEOUT = 60.0, "RAY_gcs_rpc_server_reconnect_timeout_s"
MARGIN_S = 15.0
HURRY_S = 5.0  # once a scheduler has requested this process to end
FAULT_CODE = 2


@contextmanager
def head_watched(address: str, end: Callable[[str], None] | None = None) -> Iterator[None]:
    """Context that ends this process if the head at "host:port" does not answer for too long; `end` gets the reason."""
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(address, over, end or _end), name="head", daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()


def patience_s() -> float:
    """Seconds of silence of the head after which this process ends."""
    if seconds_since():
        return HURRY_S
    try:
        timeout = float(os.environ.get(RAY_TIMEOUT, RAY_TIMEOUT_S))
    except ValueError:
        timeout = RAY_TIMEOUT_S
    return max(timeout - MARGIN_S, timeout / 2)


def _watch(address: str, over: threading.Event, end: Callable[[str], None]) -> None:
    silent_since = None
    while not over.wait(CHECK_S):
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
    """Exit this process at once: any call of Ray would wait for the head."""
    logger.error("%s", why)
    signum = requested_signal()
    os._exit(FAULT_CODE if signum is None else exit_code(signum))
