"""Signals, sent to processes of their own that import nothing heavy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray.tune import tune as tune_module

from orchestrator.common import interruption
from orchestrator.common.interruption import Interrupted, held_back, listening, requested_signal
from orchestrator.study.events import ReportingCallback

WORK = """
import sys, time
from orchestrator.common.interruption import requested_signal, exit_code, held_back, listening, raise_if_requested
with listening():
    try:
        {body}
    except KeyboardInterrupt as end:
        print("ended", end, flush=True)
        sys.exit(exit_code(requested_signal()))
"""
HEARS_HANGUPS = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # which nohup ignores
WAIT = 'print("ready", flush=True); time.sleep(60)'
HOLD = """
        with held_back():
            print("ready", flush=True)
            while requested_signal() is None: time.sleep(0.01)
            print("finishing", flush=True)
            time.sleep({seconds})
            print("finished", flush=True)"""


def signalled(body: str, *signums: int, pause: float = 0.0, before: str = "") -> tuple[int, str]:
    """Run it, send signals once it is ready; return the exit code and what it printed."""
    script = HEARS_HANGUPS + before + WORK.format(body=body)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for signum in signums:
            process.send_signal(signum)
            time.sleep(pause)
        told = process.stdout.read()
    return process.returncode, told


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGUSR1, 75)],
)
def test_a_scheduler_hears_75_and_ctrl_c_is_130(signum: signal.Signals, code: int):
    assert signalled(WAIT, signum) == (code, f"ended {signum.name}\n")


def test_what_is_held_back_comes_to_its_end_first():
    assert signalled(HOLD.format(seconds=0.1), signal.SIGTERM) == (75, "finishing\nfinished\nended SIGTERM\n")


def test_a_second_signal_ends_the_process_at_once():
    code, told = signalled(HOLD.format(seconds=60), signal.SIGINT, signal.SIGINT, pause=0.3)
    assert code == 130 and "finished" not in told


def test_the_same_wish_said_twice_in_a_moment_is_one():
    body = HOLD.format(seconds=0.3)
    assert signalled(body, signal.SIGHUP, signal.SIGTERM, pause=0.05)[0] == 75
    assert "finished" in signalled(body, signal.SIGTERM, signal.SIGTERM, pause=0.05)[1]


def test_a_process_that_does_not_end_in_time_ends_by_itself():
    shorter = "import orchestrator.common.interruption as i; i.PATIENCE_S = 0.2\n"
    code, told = signalled(HOLD.format(seconds=60), signal.SIGTERM, before=shorter)
    assert code == 75 and "finished" not in told


def test_after_sigusr1_there_is_time_until_sigterm_follows():
    shorter = "import orchestrator.common.interruption as i; i.PATIENCE_S = 0.3\n"
    code, told = signalled(HOLD.format(seconds=1), signal.SIGUSR1, before=shorter)
    assert (code, told) == (75, "finishing\nfinished\nended SIGUSR1\n")
    code, told = signalled(HOLD.format(seconds=60), signal.SIGUSR1, signal.SIGTERM, before=shorter, pause=0.1)
    assert code == 75 and "finished" not in told


def test_tune_does_not_keep_sigusr1_for_itself():
    with listening():
        tune_module._setup_signal_catching()  # what `Tuner.fit` does before its callbacks are set up
        assert signal.getsignal(signal.SIGUSR1) is not interruption._on_signal
        ReportingCallback.setup(object.__new__(ReportingCallback))
        assert signal.getsignal(signal.SIGUSR1) is interruption._on_signal


def test_nohup_is_respected():
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    body = 'print("ready", flush=True); time.sleep(0.3); print("went on", flush=True)'
    assert signalled(body, signal.SIGHUP, before=ignoring) == (0, "went on\n")


def test_outside_everything_is_as_it_was():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM"), listening(), held_back():
        os.kill(os.getpid(), signal.SIGTERM)
        while requested_signal() is None:
            pass
    assert signal.getsignal(signal.SIGTERM) == before and requested_signal() is None
    assert Path(interruption.__file__).exists()
