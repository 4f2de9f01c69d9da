from __future__ import annotations

import pytest
from trained import trained_study

from orchestrator.study.runnable_study import RunnableStudy


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunnableStudy:
    """Three trials with two folds each, really trained; tests may add to what is on record, and take nothing away."""
    return trained_study(tmp_path_factory.mktemp("trained"))
