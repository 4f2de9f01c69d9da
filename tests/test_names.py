"""`models` and `search_spaces` are names below `orchestrator`, so that a user's folder may hold them too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.search.space.shipped import names
from orchestrator.search.space.space_file import load_space

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, without what it needs."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    subprocess.run([*pip, folder, ROOT], check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("own", ["models.py", "models/__init__.py", "models/readme.txt"])
def test_a_wheel_runs_in_a_folder_with_models_of_its_own(tmp_path: Path, installed: Path, own: str):
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).touch()
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "space", "check", "unet"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_wheel_brings_networks_and_search_spaces_and_no_other_name(installed: Path):
    packages = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert packages - {"bin"} == {"orchestrator"}
    for folder, pattern in (("models", "*.py"), ("search_spaces", "*.toml")):
        here = {path.name for path in (ROOT / folder).glob(pattern)}
        assert {path.name for path in (installed / "orchestrator" / folder).glob(pattern)} == here


@pytest.mark.parametrize("name", names())
def test_a_name_stands_for_the_file_that_is_shipped(name: str):
    assert load_space(Path(name)).digest == load_space(ROOT / "search_spaces" / f"{name}.toml").digest


def test_a_file_of_ones_own_goes_before_one_that_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "search_spaces" / "smoke.toml").read_text(encoding="utf-8")
    Path("unet").write_text(text, encoding="utf-8")
    assert load_space(Path("unet")).text == text
