"""A server of MLflow on this machine's loopback, for the database of a home, and the addresses of its pages."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError

from orchestrator.common.errors import BadMachine
from orchestrator.results.mlflow.client import QUIET
from orchestrator.results.mlflow.ui.views import FIRST, TRAINING, VIEW

LOOPBACK = "127.0.0.1"
PORTS = range(5000, 5100)  # those that are tried where none is asked for
START_S, STOP_S = 180.0, 10.0
# No helper processes for jobs of agents: a study has none.
OWN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}


def free_port(wanted: int | None) -> int:
    """The port that was asked for, or the first free one from 5000 on. `BadMachine` where it is taken."""
    if wanted is not None:
        if not _is_free(wanted):
            raise BadMachine(
                "--port", f"{wanted} is taken by another program; without --port, a free one is found"
            )
        return wanted
    for port in PORTS:
        if _is_free(port):
            return port
    raise BadMachine(
        "--port", f"all ports from {PORTS.start} to {PORTS.stop - 1} are taken; name another one"
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


@contextmanager
def serving(uri: str, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server on the database `uri`, once it answers; it has ended, with all its children, afterwards.

    What it prints goes to the file `log`. Raises `BadMachine` where it ends before it answers.
    """
    words = ("-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1")
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, *words],
            # Not among the words, which every user of the machine can read: it may hold a password.
            env={**os.environ, **QUIET, **OWN, "MLFLOW_BACKEND_STORE_URI": uri},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others
        )
        try:
            _wait_until_it_answers(server, port, log)
            yield server
        finally:
            _end(server)


def runs_page(base: str, experiment_id: str, tags: dict[str, str]) -> str:
    """Address of a study's table of runs, in MLflow's view for training, with its saved view if any."""
    view = f"&viewStateShareKey={FIRST}" if f"{VIEW}{FIRST}" in tags else ""
    return f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs?{TRAINING}{view}"


def _wait_until_it_answers(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        with (
            suppress(URLError, OSError),
            urllib.request.urlopen(f"http://{LOOPBACK}:{port}/health", timeout=5),
        ):
            return
        time.sleep(0.2)
    last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
    raise BadMachine(
        "MLflow's server", f"does not start: {''.join(last) or 'no answer'}; its whole output is in {log}"
    )


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server and its children, which are a group of processes."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signum)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_S)
    with suppress(ProcessLookupError):  # children that outlived it
        os.killpg(server.pid, signal.SIGKILL)
