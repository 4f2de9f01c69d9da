"""A home with a drawn dataset that the tests of a file share."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn import drawn_cases


@pytest.fixture(scope="module")
def drawn_home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    drawn_cases(home)
    return home
