"""A home, and commands that are typed in this process."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from formula import formula_study
from tiny_space import tiny_space
from typed import Done, Run

from orchestrator.cli import main
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset

TINY = tiny_space(batch_size=4)
THREE_MISTAKES = """
network = "unte"
[search]
learning_rate = { log_uniform = [0, 1] }
[fixed]
epohs = 3
"""
HALF_A_SPLIT = '{"format": 2, "name": "mine"}'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a drawn dataset and a study whose trials have not begun. Tests may add to it, not change it."""
    home = tmp_path_factory.mktemp("home")
    draw_dataset(home / "frames", num_cases=24, size=32)
    add_dataset(home, "drawn", home / "frames", groups=home / "frames" / "groups.csv", allow_empty=True)
    study = formula_study(home, num_trials=1)
    study.store.begin(study.space, study.plan, study.spec)
    return home


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Fits this small only wait for one another's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command line as the shell would, in a folder that holds a few files to name."""
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "mistakes.toml").write_text(THREE_MISTAKES)
    (tmp_path / "half.json").write_text(HALF_A_SPLIT)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(home))

    def run(line: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["orchestrator", *shlex.split(line)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return run
