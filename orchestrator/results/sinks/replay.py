"""A sink that writes what is missing from the records of a study, again and again, from a thread of its own.

The records on disk are the one truth, so nothing is queued: whatever failed, or was missed while no process ran, is
found missing and written by the next `sync`. The search never waits for one and never fails because of one.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from abc import ABC, abstractmethod
from typing import Self

from orchestrator.common.faults import machine_fault
from orchestrator.common.interruption import seconds_since
from orchestrator.common.redaction import without_secrets
from orchestrator.search.store.trials import StudyTrial
from orchestrator.study.sinks import ResultSink

logger = logging.getLogger(__name__)

PERIOD_S, RETRY_S = 5.0, 15.0  # between two syncs; after one that failed
SHARE, LONGEST_S = (
    0.05,
    60.0,
)  # of the time of a core that syncs may take; they are rarer for it, but not than this
SETTLE_S = 120.0  # how long the last sync is waited for
HURRY_S = 20.0  # after a scheduler has asked this process to end: it will kill it after 30 s


class ReplaySink(ResultSink, ABC):
    """Calls `sync` at the start, every few seconds, and a last time at the end of the study.

    A problem is logged once, and once more when it is over.
    """

    name, problem = "a sink", "is away"  # the beginning of a log line

    def __init__(self, *, period_s: float = PERIOD_S, retry_s: float = RETRY_S) -> None:
        self.period_s, self.retry_s = period_s, retry_s
        self.problems: set[str] = set()  # kinds of those that were logged since the last sync that succeeded
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def sync(self, *, is_last: bool) -> None:
        """Write what is on record and was not written yet; whatever it raises, it is called again."""

    def missing(self) -> str | None:
        """Description of the results that the last sync did not write; None if all are written."""
        return None

    def known_problem(self, error: Exception) -> str | None:
        """Text of a known error; None of an unknown one, maybe a bug, logged with its traceback."""
        return str(fault) if (fault := machine_fault(error)) is not None else None

    @property
    def is_away(self) -> bool:
        """Whether the last sync failed."""
        return bool(self.problems)

    def finished(self, champion: StudyTrial | None) -> None:
        """Begin the last sync, while the search closes down."""
        self._closing.set()

    def __enter__(self) -> Self:
        self._closing.clear()
        self._thread = threading.Thread(target=self._work, name=type(self).__name__, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, settle_s: float = SETTLE_S) -> None:
        """Sync a last time, for so many seconds at most, and log what is missing then."""
        if self._thread is None:
            return
        self._closing.set()
        end = time.monotonic() + settle_s
        while self._thread.is_alive() and time.monotonic() < end and seconds_since() < HURRY_S:
            self._thread.join(0.1)
        is_late = self._thread.is_alive()
        self._thread = None
        if (is_late or self.is_away) and (missing := self.missing()) is not None:
            logger.warning("%s", without_secrets(missing))

    def attempt(self, *, is_last: bool) -> bool:
        """Sync once; False, and a log line, where that failed."""
        try:
            self.sync(is_last=is_last)
        except Exception as error:  # whatever it is, a bug too: it must not end a search
            self._log_problem(error)
            return False
        if self.problems:
            self.problems.clear()
            logger.warning("%s works again, and has what it lacked", without_secrets(self.name))
        return True

    def _work(self) -> None:
        while not self._closing.is_set():
            before = time.thread_time()
            is_done = self.attempt(is_last=False)
            pause = min((time.thread_time() - before) / SHARE, LONGEST_S)
            self._closing.wait(max(pause, self.period_s) if is_done else self.retry_s)
        self.attempt(is_last=True)

    def _log_problem(self, error: Exception) -> None:
        kind = f"{type(error).__name__} {getattr(error, 'error_code', '')}"
        if kind in self.problems:
            return
        self.problems.add(kind)
        known = self.known_problem(error)
        text = known if known is not None else "".join(traceback.format_exception(error))
        logger.warning(
            "%s; nothing is lost, a later sync writes what is missing: %s",
            without_secrets(f"{self.name} {self.problem}"),
            without_secrets(text),
        )
