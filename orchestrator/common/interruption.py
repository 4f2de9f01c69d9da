"""A wish from outside that this process end: Ctrl-C, a scheduler's SIGTERM, the SIGHUP of a lost terminal.

The first one raises `Interrupted` in the main thread, or is held back where a piece of work must come to an end of its
own. A second one ends the process at once. A scheduler waits 30 seconds before it kills: after `PATIENCE_S` the process
ends by itself. Some send SIGUSR1 minutes ahead: then there is time, until SIGTERM says that there is none.
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
UNHURRIED = (signal.SIGINT, signal.SIGUSR1)
BY_HAND, RUN_AGAIN = 130, 75  # exit codes: 128 + SIGINT, and EX_TEMPFAIL of sysexits.h
PATIENCE_S = 26.0
# Schedulers and terminals say it twice within a moment, to the process and to its group.
ECHO_S = 5.0


class Interrupted(KeyboardInterrupt):
    """This process was asked to end."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signal.Signals(signum).name)


class _Wish:
    """What this process was asked, and whether it may be raised now. One a process, as signals are."""

    signum: int | None = None
    at = 0.0
    num_held = 0
    is_listening = False


def asked() -> int | None:
    """The signal that asked this process to end, if one did."""
    return _Wish.signum


def seconds_since() -> float:
    """How long ago a scheduler asked that will kill; 0 if none did. After Ctrl-C and SIGUSR1 there is no hurry."""
    return 0.0 if _Wish.signum in (None, *UNHURRIED) else time.monotonic() - _Wish.at


def raise_if_asked() -> None:
    """Raises `Interrupted` if this process was asked to end."""
    if _Wish.signum is not None:
        raise Interrupted(_Wish.signum)


def exit_code(signum: int) -> int:
    """130 after Ctrl-C, 75 after what a scheduler or a lost terminal sends: run the same command again."""
    return BY_HAND if signum == signal.SIGINT else RUN_AGAIN


@contextmanager
def listening() -> Iterator[None]:
    """Handle signals for as long as this lasts, in the main thread; inside another `listening` nothing changes."""
    if _Wish.is_listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    _Wish.signum, _Wish.is_listening = None, True
    listen_again()
    try:
        yield
    finally:
        _Wish.signum, _Wish.is_listening = None, False
        for signum, handler in before.items():
            signal.signal(signum, handler)


def listen_again() -> None:
    """Take the signals back from a library that took them. Who started us with `nohup` wants SIGHUP ignored."""
    if not _Wish.is_listening or threading.current_thread() is not threading.main_thread():
        return
    for signum in SIGNALS:
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _on_signal)


@contextmanager
def held_back() -> Iterator[None]:
    """Signals are noted, and raised at the end of the outermost such block: what is in it looks at `asked` itself."""
    with listening():
        _Wish.num_held += 1
        try:
            yield
        finally:
            _Wish.num_held -= 1
        if not _Wish.num_held:
            raise_if_asked()


def _on_signal(signum: int, frame: FrameType | None) -> None:
    before = _Wish.signum
    if before is not None and not (before == signal.SIGUSR1 and signum in (signal.SIGTERM, signal.SIGHUP)):
        is_echo = signal.SIGINT not in (signum, before) and time.monotonic() - _Wish.at < ECHO_S
        if not is_echo:
            os._exit(exit_code(signum))
        return
    _Wish.signum, _Wish.at = signum, time.monotonic()
    if signum not in UNHURRIED:
        _after(PATIENCE_S, _end, signum)
    if before is None and not _Wish.num_held:
        raise Interrupted(signum)


def _after(seconds: float, act: Any, *arguments: Any) -> None:
    timer = threading.Timer(seconds, act, arguments)
    timer.daemon = True
    timer.start()


def _end(signum: int) -> None:
    if _Wish.signum == signum:
        logger.warning(
            "ended %.0f s after %s, with what is on record", PATIENCE_S, signal.Signals(signum).name
        )
        os._exit(exit_code(signum))
