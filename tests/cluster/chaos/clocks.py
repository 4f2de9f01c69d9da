"""Clocks that are set back, or that differ between nodes: see clock.c."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from chaos.faults import fault
from chaos.scene import INTERRUPTED, Scene

BACK = "-7200"


def faked(clock: Path) -> dict[str, str]:
    """For processes whose wall clock is as many seconds off as this file says, whenever that changes."""
    library = clock.with_suffix(".so")
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(clock)}


def clock_of(scene: Scene) -> Path:
    clock = scene.folder / "clock"
    clock.write_text("0\n")
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
