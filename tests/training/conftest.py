"""Drawn frames that the tests of a file share."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn import drawn_cases

from orchestrator.data.cache.frames import CachedCases


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def cases(home) -> CachedCases:
    return drawn_cases(home)
