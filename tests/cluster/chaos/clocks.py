"""Clocks that are set back, or that differ between nodes: libfaketime."""

from __future__ import annotations

import signal
from pathlib import Path

from chaos.faults import fault
from chaos.scene import INTERRUPTED, Scene

BACK = "-2h"


def faked(clock: Path) -> dict[str, str]:
    """For processes whose time is what this file says, whenever it changes."""
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
    if library is None:
        raise RuntimeError("needs libfaketime (apt-get install faketime)")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_RESET": "1",
    }


def clock_of(scene: Scene) -> Path:
    clock = scene.folder / "clock"
    clock.write_text("+0\n")
    scene.environment = faked(clock)
    return clock


@fault("clock", "the clock is set back by two hours while the search runs", "clock")
def back(scene: Scene) -> None:
    clock = clock_of(scene)
    scene.start()
    scene.until_train()
    scene.strike("the clock is set back by two hours", lambda: clock.write_text(f"{BACK}\n"))
    scene.recover()
    scene.finish()


@fault("clock-resumed", "the clock is two hours back when the study is resumed", "clock")
def resumed(scene: Scene) -> None:
    clock = clock_of(scene)
    process = scene.start()
    scene.until_train()
    scene.strike("SIGTERM", lambda: process.send_signal(signal.SIGTERM))
    scene.end(INTERRUPTED)
    clock.write_text(f"{BACK}\n")
    scene.say("the clock is set back by two hours")
    scene.start()
    scene.recover(since=scene.begun)
    scene.finish()


@fault("clock-skew", "the clock of one of two nodes is two hours back", "clock", nodes=2, lanes=2)
def skew(scene: Scene) -> None:
    assert scene.nodes is not None
    node = scene.nodes.nodes[1]
    clock = scene.folder / "clock"
    clock.write_text(f"{BACK}\n")
    scene.nodes.restart(node, faked(clock))
    scene.say(f"the clock of {node.name} is two hours back")
    scene.finish()
    scene.nodes.restart(node)
