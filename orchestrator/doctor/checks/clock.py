"""Differences between the clocks of nodes and the driver's clock, within the uncertainty of the round trip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.doctor.checks.findings import Result, failure, ok, warning

NUM_SAMPLES = 5
LARGE_S, HUGE_S = 2.0, 60.0
REMEDY = "have it set by NTP: `timedatectl set-ntp true`, or chrony"


@dataclass(frozen=True)
class Skew:
    """Offset of a node's clock from ours, in seconds, and the bound of its error."""

    seconds: float
    bound_s: float

    @property
    def least(self) -> float:
        """Lower bound of the absolute difference between the clocks, in seconds."""
        return max(0.0, abs(self.seconds) - self.bound_s)


def measure(ask: Callable[[], float], now: Callable[[], float] = time.time, times: int = NUM_SAMPLES) -> Skew:
    """Offset of a node's clock, by the fastest of several answers; `ask`: its time in seconds since 1970.

    The node read its clock at some time during the round trip, so the error is at most half of that.
    """
    found = []
    for _ in range(times):
        sent = now()
        theirs = ask()
        received = now()
        found.append(Skew(theirs - (sent + received) / 2, (received - sent) / 2))
    return min(found, key=lambda skew: skew.bound_s)


def judge(skew: Skew) -> Iterator[Result]:
    found = f"{skew.seconds:+.3f} s against the driver's clock, give or take {skew.bound_s:.3f} s"
    if skew.least > HUGE_S:
        yield failure(
            f"{found}: tokens and certificates will be rejected, and `orchestrator status` is wrong", REMEDY
        )
    elif skew.least > LARGE_S:
        yield warning(found, REMEDY)
    else:
        yield ok(found)
