"""Searches that are told to end, that do not end, and that meet another of their name."""

from __future__ import annotations

import os
import signal
import time

from chaos.disturbed_study import FAULT, INTERRUPTED, WORKER, DisturbedStudy
from chaos.faults import fault
from chaos.nodes import kill

KILL_WAIT_S = 30.0  # Slurm's


@fault("two", "two searches with one name", "ends")
def two(disturbed: DisturbedStudy) -> None:
    disturbed.start()
    disturbed.until_train((0.1, 0.2))
    second = disturbed.run(disturbed.words, disturbed.folder / "second.log")
    code = second.wait(180)
    told = (disturbed.folder / "second.log").read_text()
    disturbed.say(f"a second search of that name ended with {code}")
    assert code == FAULT and "another process" in told and "Traceback" not in told, told
    disturbed.codes.append(code)
    disturbed.finish()


def ended_by_scheduler(disturbed: DisturbedStudy) -> None:
    """SIGTERM, SIGKILL after 30 seconds for all that is left, and the same command again."""
    process = disturbed.process
    assert process is not None
    disturbed.disturb("SIGTERM", lambda: process.send_signal(signal.SIGTERM))
    while process.poll() is None and time.monotonic() - disturbed.disturbed_at < KILL_WAIT_S:
        time.sleep(0.1)
    disturbed.seconds["ended"] = time.monotonic() - disturbed.disturbed_at
    kill(disturbed.processes(""))
    disturbed.say("SIGKILL for what is left")
    disturbed.end(INTERRUPTED)
    disturbed.start()
    disturbed.recover(since=disturbed.begun)
    disturbed.finish()


@fault("sigterm", "SIGTERM, SIGKILL 30 seconds later, then the same command", "ends")
def sigterm(disturbed: DisturbedStudy) -> None:
    disturbed.start()
    disturbed.until_train()
    ended_by_scheduler(disturbed)


@fault("sigterm-stuck", "SIGTERM while a worker hangs, SIGKILL 30 seconds later, the same command", "ends")
def stuck(disturbed: DisturbedStudy) -> None:
    disturbed.start()
    disturbed.until_train()
    for pid in disturbed.processes(WORKER):
        os.kill(pid, signal.SIGSTOP)
    disturbed.say("the worker hangs")
    ended_by_scheduler(disturbed)


@fault("sigkill-all", "SIGKILL of every process at once, then the same command", "ends")
def everything(disturbed: DisturbedStudy) -> None:
    disturbed.start()
    disturbed.until_train()
    disturbed.disturb("SIGKILL of all", lambda: kill(disturbed.processes("")))
    disturbed.end(-9)
    disturbed.start()
    disturbed.recover(since=disturbed.begun)
    disturbed.finish()
