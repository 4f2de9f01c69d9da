"""Notebooks in examples/ run from the first cell to the last."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))


def cells(notebook: Path) -> list[str]:
    found = json.loads(notebook.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", EXAMPLES, ids=lambda path: path.name)
def test_a_notebook_is_python_without_output(notebook: Path):
    for text in cells(notebook):
        compile(text, str(notebook), "exec")
    assert all(not cell.get("outputs") for cell in json.loads(notebook.read_text("utf-8"))["cells"])


@pytest.mark.slow
@pytest.mark.parametrize("notebook", EXAMPLES, ids=lambda path: path.name)
def test_a_notebook_runs_to_its_end(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    names: dict[str, object] = {}
    for text in cells(notebook):
        exec(compile(text, str(notebook), "exec"), names)
    assert (tmp_path / "champion" / "model_card.md").is_file()
