"""Searches that are told to end, that do not end, and that meet another of their name."""

from __future__ import annotations

import os
import signal
import time

from chaos.faults import fault
from chaos.nodes import kill
from chaos.scene import FAULT, INTERRUPTED, WORKER, Scene

KILL_WAIT_S = 30.0  # Slurm's


@fault("two", "two searches with one name", "ends")
def two(scene: Scene) -> None:
    scene.start()
    scene.until_train((0.1, 0.2))
    second = scene.run(scene.words, scene.folder / "second.log")
    code = second.wait(180)
    told = (scene.folder / "second.log").read_text()
    scene.say(f"a second search of that name ended with {code}")
    assert code == FAULT and "another process" in told and "Traceback" not in told, told
    scene.codes.append(code)
    scene.finish()


def ended_by_scheduler(scene: Scene) -> None:
    """SIGTERM, SIGKILL after 30 seconds for all that is left, and the same command again."""
    process = scene.process
    assert process is not None
    scene.strike("SIGTERM", lambda: process.send_signal(signal.SIGTERM))
    while process.poll() is None and time.monotonic() - scene.struck < KILL_WAIT_S:
        time.sleep(0.1)
    scene.seconds["ended"] = time.monotonic() - scene.struck
    kill(scene.victims(""))
    scene.say("SIGKILL for what is left")
    scene.end(INTERRUPTED)
    scene.start()
    scene.recover(since=scene.begun)
    scene.finish()


@fault("sigterm", "SIGTERM, SIGKILL 30 seconds later, then the same command", "ends")
def sigterm(scene: Scene) -> None:
    scene.start()
    scene.until_train()
    ended_by_scheduler(scene)


@fault("sigterm-stuck", "SIGTERM while a worker hangs, SIGKILL 30 seconds later, the same command", "ends")
def stuck(scene: Scene) -> None:
    scene.start()
    scene.until_train()
    for pid in scene.victims(WORKER):
        os.kill(pid, signal.SIGSTOP)
    scene.say("the worker hangs")
    ended_by_scheduler(scene)


@fault("sigkill-all", "SIGKILL of every process at once, then the same command", "ends")
def everything(scene: Scene) -> None:
    scene.start()
    scene.until_train()
    scene.strike("SIGKILL of all", lambda: kill(scene.victims("")))
    scene.end(-9)
    scene.start()
    scene.recover(since=scene.begun)
    scene.finish()
