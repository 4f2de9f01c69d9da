"""Requests to end this process: Ctrl-C, a scheduler's SIGTERM, the SIGHUP of a lost terminal.

The first one raises `Interrupted` in the main thread, or is deferred where work must finish first. A second one ends
the process at once. Schedulers kill 30 seconds after SIGTERM: the process ends itself after `PATIENCE_S`. Some send
SIGUSR1 minutes earlier, which leaves time until SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
WITHOUT_DEADLINE = (signal.SIGINT, signal.SIGUSR1)
BY_CTRL_C, RUN_AGAIN = 130, 75  # exit codes: 128 + SIGINT, and EX_TEMPFAIL of sysexits.h
PATIENCE_S = 26.0
# Schedulers and terminals send a signal twice within a moment, to the process and to its group.
ECHO_S = 5.0


class Interrupted(KeyboardInterrupt):
    """A signal requested this process to end."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signal.Signals(signum).name)


class _Request:
    """State of signal handling: signal and time of a request, and whether it is deferred; one per process."""

    signum: int | None = None
    at = 0.0
    num_deferred = 0
    is_listening = False


def requested_signal() -> int | None:
    """The signal that requested this process to end, if any."""
    return _Request.signum


def seconds_since() -> float:
    """Seconds since a scheduler's request that precedes a kill; 0 without one, as after Ctrl-C and SIGUSR1."""
    return 0.0 if _Request.signum in (None, *WITHOUT_DEADLINE) else time.monotonic() - _Request.at


def raise_if_requested() -> None:
    """Raise `Interrupted` if this process was requested to end."""
    if _Request.signum is not None:
        raise Interrupted(_Request.signum)


def exit_code(signum: int) -> int:
    """130 after Ctrl-C; 75, to run the same command again, after signals of a scheduler or a lost terminal."""
    return BY_CTRL_C if signum == signal.SIGINT else RUN_AGAIN


@contextmanager
def listening() -> Iterator[None]:
    """Context that handles signals in the main thread; nested contexts change nothing."""
    if _Request.is_listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    _Request.signum, _Request.is_listening = None, True
    reinstall_handlers()
    try:
        yield
    finally:
        _Request.signum, _Request.is_listening = None, False
        for signum, handler in before.items():
            signal.signal(signum, handler)


def reinstall_handlers() -> None:
    """Install the handlers again after a library replaced them. SIGHUP stays ignored under `nohup`."""
    if not _Request.is_listening or threading.current_thread() is not threading.main_thread():
        return
    for signum in SIGNALS:
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _on_signal)


@contextmanager
def held_back() -> Iterator[None]:
    """Context that defers signals to the end of the outermost such block; code in it checks `requested_signal`."""
    with listening():
        _Request.num_deferred += 1
        try:
            yield
        finally:
            _Request.num_deferred -= 1
        if not _Request.num_deferred:
            raise_if_requested()


def _on_signal(signum: int, frame: FrameType | None) -> None:
    before = _Request.signum
    if before is not None and not (before == signal.SIGUSR1 and signum in (signal.SIGTERM, signal.SIGHUP)):
        is_echo = signal.SIGINT not in (signum, before) and time.monotonic() - _Request.at < ECHO_S
        if not is_echo:
            os._exit(exit_code(signum))
        return
    _Request.signum, _Request.at = signum, time.monotonic()
    if signum not in WITHOUT_DEADLINE:
        _after(PATIENCE_S, _end, signum)
    if before is None and not _Request.num_deferred:
        raise Interrupted(signum)


def _after(seconds: float, act: Any, *arguments: Any) -> None:
    timer = threading.Timer(seconds, act, arguments)
    timer.daemon = True
    timer.start()


def _end(signum: int) -> None:
    if _Request.signum == signum:
        logger.warning(
            "ended %.0f s after %s, with the results recorded so far", PATIENCE_S, signal.Signals(signum).name
        )
        os._exit(exit_code(signum))
