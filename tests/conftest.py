"""Fixtures of several rooms."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Tests decide by themselves where homes, caches and servers are.
for name in [name for name in os.environ if name.startswith(("ORCHESTRATOR_", "MLFLOW_"))]:
    del os.environ[name]

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

# A loaded machine is no failure.
settings.register_profile("no-clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no-clock")


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One SQLite store for all tests: making its tables takes seconds. Every test has its own experiment."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
