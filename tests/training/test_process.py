"""A process that keeps its freed memory: to ask for as much again costs it few new pages, in whatever thread.

Few and not none: small blocks lie between the large ones, wherever the system put the heap, so that now and then a
large one fits no hole and is taken from the end: in 25 runs at most a tenth of what glibc takes by itself.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from orchestrator.common.allocator import KEEP_FREED_MEMORY
from orchestrator.common.cpus import limit_spinning

PAGE = 4096
LAYER = 32 * 2**20
FAULTS = f"""
import resource
from concurrent.futures import ThreadPoolExecutor
import torch
from orchestrator.training.process import configure_process

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        layers = [torch.ones({LAYER // 4}) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

"""
BY_ITSELF = """
before = faults()
configure_process(threads=1)
faults()
print(before, faults())
"""
STARTED_SO = """
with ThreadPoolExecutor(1) as thread:
    thread.submit(faults).result()
    print(thread.submit(faults).result())
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="these settings are glibc's")


def told(script: str, **environment: str) -> list[int]:
    inherited = {name: value for name, value in os.environ.items() if name not in KEEP_FREED_MEMORY}
    ran = subprocess.run(
        [sys.executable, "-c", FAULTS + script],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(word) for word in ran.stdout.split()]


@pytest.mark.slow
def test_a_settled_process_takes_few_new_pages():
    before, after = told(BY_ITSELF)
    assert before > 30 * LAYER / PAGE  # as glibc comes: 40 layers, each page of them
    assert after < before / 4


@pytest.mark.slow
def test_a_process_that_was_started_so_takes_few_new_pages_in_any_thread():
    (as_it_comes,), (kept,) = told(STARTED_SO), told(STARTED_SO, **KEEP_FREED_MEMORY)
    assert as_it_comes > 30 * LAYER / PAGE
    assert kept < as_it_comes / 4


def test_threads_that_wait_sleep_soon_unless_the_user_chose(monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    limit_spinning()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    limit_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"


def test_torch_gets_no_more_threads_than_there_are_cores():
    (threads,) = told("configure_process(threads=1000)\nprint(torch.get_num_threads())")
    assert threads == len(os.sched_getaffinity(0))
