"""The networks are found whatever a user's folder holds; who has imported another `models` is told so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import models

FOUND = "import importlib.util, orchestrator; print(importlib.util.find_spec('models').origin)"


@pytest.mark.parametrize("file", ["models.py", "models/__init__.py", "models/readme.txt"])
def test_a_folder_that_holds_models_of_its_own_does_not_hide_the_networks(tmp_path: Path, file: str):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    done = subprocess.run(
        [sys.executable, "-c", FOUND], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()) == Path(models.__file__)


def test_models_that_were_imported_before_are_named_with_the_way_out(tmp_path: Path):
    (tmp_path / "models.py").touch()
    program = "import models, orchestrator"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert (
        f"ImportError: `models` is {tmp_path / 'models.py'} here" in last
        and "import orchestrator first" in last
    )
