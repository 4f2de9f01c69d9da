"""Clocks of nodes against the driver's, as far as the way there and back lets one tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.doctor.checks.findings import Result, failure, ok, warning

NUM_ASKED = 5
LARGE_S, HUGE_S = 2.0, 60.0
REMEDY = "have it set by NTP: `timedatectl set-ntp true`, or chrony"


@dataclass(frozen=True)
class Skew:
    """How far a node's clock is ahead of ours, in seconds, and by how much that may be wrong."""

    seconds: float
    bound_s: float

    @property
    def least(self) -> float:
        """By so much at least they differ."""
        return max(0.0, abs(self.seconds) - self.bound_s)


def measure(ask: Callable[[], float], now: Callable[[], float] = time.time, times: int = NUM_ASKED) -> Skew:
    """Ask a node for its time, in seconds since 1970; of several answers the one that came soonest counts.

    Wherever between question and answer the clock was read, the middle is off by half of the way at most.
    """
    found = []
    for _ in range(times):
        asked = now()
        theirs = ask()
        answered = now()
        found.append(Skew(theirs - (asked + answered) / 2, (answered - asked) / 2))
    return min(found, key=lambda skew: skew.bound_s)


def judge(skew: Skew) -> Iterator[Result]:
    found = f"{skew.seconds:+.3f} s against the driver's clock, give or take {skew.bound_s:.3f} s"
    if skew.least > HUGE_S:
        yield failure(
            f"{found}: tokens and certificates are refused, and `orchestrator status` is misled", REMEDY
        )
    elif skew.least > LARGE_S:
        yield warning(found, REMEDY)
    else:
        yield ok(found)
