"""Clocks that are set back, or that differ between nodes: see clock.c."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from chaos.disturbed_study import INTERRUPTED, DisturbedStudy
from chaos.faults import fault

BACK = "-7200"


def faked(clock: Path) -> dict[str, str]:
    """For processes whose wall clock is as many seconds off as this file says, whenever that changes."""
    library = clock.with_suffix(".so")
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(clock)}


def clock_of(disturbed: DisturbedStudy) -> Path:
    clock = disturbed.folder / "clock"
    clock.write_text("0\n")
    disturbed.environment = faked(clock)
    return clock


@fault("clock", "the clock is set back by two hours while the search runs", "clock")
def back(disturbed: DisturbedStudy) -> None:
    clock = clock_of(disturbed)
    disturbed.start()
    disturbed.until_train()
    disturbed.disturb("the clock is set back by two hours", lambda: clock.write_text(f"{BACK}\n"))
    disturbed.recover()
    disturbed.finish()


@fault("clock-resumed", "the clock is two hours back when the study is resumed", "clock")
def resumed(disturbed: DisturbedStudy) -> None:
    clock = clock_of(disturbed)
    process = disturbed.start()
    disturbed.until_train()
    disturbed.disturb("SIGTERM", lambda: process.send_signal(signal.SIGTERM))
    disturbed.end(INTERRUPTED)
    clock.write_text(f"{BACK}\n")
    disturbed.say("the clock is set back by two hours")
    disturbed.start()
    disturbed.recover(since=disturbed.begun)
    disturbed.finish()


@fault("clock-skew", "the clock of one of two nodes is two hours back", "clock", nodes=2, lanes=2)
def skew(disturbed: DisturbedStudy) -> None:
    assert disturbed.nodes is not None
    node = disturbed.nodes.nodes[1]
    clock = disturbed.folder / "clock"
    clock.write_text(f"{BACK}\n")
    disturbed.nodes.restart(node, faked(clock))
    disturbed.say(f"the clock of {node.name} is two hours back")
    disturbed.finish()
    disturbed.nodes.restart(node)
