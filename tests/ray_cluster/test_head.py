"""A head that falls silent ends the search in words before Ray ends it without."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

from orchestrator.ray_cluster import head


def test_a_head_that_answers_again_is_forgiven_and_one_that_stays_silent_is_not(monkeypatch):
    monkeypatch.setattr(head, "CHECK_S", 0.02)
    monkeypatch.setenv(head.RAY_TIMEOUT, "1")
    said, is_said = [], threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with head.head_watched(address, lambda why: (said.append(why), is_said.set())):
            assert not is_said.wait(1.0)
            server.close()
            assert is_said.wait(30)
    assert (
        said[0].startswith(f"the head of the Ray cluster, {address}: ")
        and "start the cluster again" in said[0]
    )


def test_a_search_whose_head_is_gone_ends_with_the_exit_code_of_a_fault():
    code = """
import time
from orchestrator.ray_cluster import head
head.CHECK_S = 0.02
with head.head_watched("127.0.0.1:1"):
    time.sleep(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={head.RAY_TIMEOUT: "0.1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and "the same command again" in done.stderr


def test_ray_is_always_forestalled(monkeypatch):
    for timeout, patience in (("60", 45.0), ("4", 2.0), ("many", 45.0)):
        monkeypatch.setenv(head.RAY_TIMEOUT, timeout)
        assert head.patience_s() == patience


def test_where_a_scheduler_ends_head_and_search_alike_the_search_does_not_wait_for_the_head():
    code = """
import signal, time
from orchestrator.ray_cluster import head
from orchestrator.common.interruption import held_back
head.CHECK_S = head.HURRY_S = 0.02
with held_back(), head.head_watched("127.0.0.1:1"):
    signal.raise_signal(signal.SIGTERM)
    time.sleep(20)
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 75 and time.monotonic() - began < 15
