"""Stands in for the search: prints what it hears, and ends as the word after `search` says for this start."""

import os
import signal
import sys
import time


def on_signal(signum: int, frame: object) -> None:
    print("heard", signal.Signals(signum).name, flush=True)


def run(end: str) -> int:
    """`wait`: until a signal comes, and then 75."""
    if end != "wait":
        return int(end)
    signal.pause()
    time.sleep(1.0)
    return 75


signal.signal(signal.SIGUSR1, on_signal)
signal.signal(signal.SIGTERM, on_signal)
start = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
print("searching", *sys.argv[2:], flush=True)
code = run(sys.argv[2].split(",")[start])
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
