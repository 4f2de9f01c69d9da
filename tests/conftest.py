"""Fixtures of several rooms."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Tests decide by themselves where homes, caches and servers are.
for name in [name for name in os.environ if name.startswith(("ORCHESTRATOR_", "MLFLOW_"))]:
    del os.environ[name]

# A loaded machine is no failure.
settings.register_profile("no-clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no-clock")


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One SQLite store for all tests: making its tables takes seconds. Every test has its own experiment."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
