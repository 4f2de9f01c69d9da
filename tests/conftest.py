"""Fixtures of several rooms."""

from __future__ import annotations

import os

import pytest

# Tests decide by themselves where homes, caches and servers are.
for name in [name for name in os.environ if name.startswith(("ORCHESTRATOR_", "MLFLOW_"))]:
    del os.environ[name]


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One SQLite store for all tests: making its tables takes seconds. Every test has its own experiment."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
