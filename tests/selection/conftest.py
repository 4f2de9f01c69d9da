from __future__ import annotations

import pytest
from trained import trained_study

from orchestrator.study.spec import Study


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three trials with two folds each, really trained; tests may add to what is on record, and take nothing away."""
    return trained_study(tmp_path_factory.mktemp("trained"))
