"""Fixtures of several rooms."""

from __future__ import annotations

import gc
import os
from collections import Counter
from functools import cache

import pytest
import typer.main
from hypothesis import HealthCheck, settings

from orchestrator.common.cpus import NICENESS_OF_STARTER

# Tests decide by themselves where homes, caches and servers are.
for name in [name for name in os.environ if name.startswith(("ORCHESTRATOR_", "MLFLOW_"))]:
    del os.environ[name]

# Nor do other programs starve the workers of a Ray that a test starts.
os.environ.update(NICENESS_OF_STARTER)

# Where several test processes share the cores, each computes with one thread: the threads of two libraries in two
# processes wait for each other three times as long as they compute. What a test starts decides for itself.
if "PYTEST_XDIST_WORKER" in os.environ:
    THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    known = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    import scipy.linalg  # noqa: F401  # libraries read the number when they are loaded
    import torch  # noqa: F401

    for name, value in known.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value

# The tree of commands takes 0.05 s to build, and is the same for every call of a CliRunner, which finds the function
# that builds it when it is imported.
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
    import typer.testing

# As the command line does: thousands of tests are objects that last, and each full collection would scan them.
gc.set_threshold(50_000, 20, 20)

# Minutes long, though of few tests.
LONGEST = "tests/system/test_end_to_end.py"

# A loaded machine is no failure.
settings.register_profile("no-clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no-clock")


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One SQLite store for all tests: making its tables takes seconds. Every test has its own experiment."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: no process is left with one of them while the others have nothing to do."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        num_tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (not item.path.match(LONGEST), -num_tests[item.path]))
