"""`orchestrator data cache` and `orchestrator data preview`, as typed."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from orchestrator.cli import main
from orchestrator.data.augmentation.names import NAMES
from orchestrator.data.cache.frames import cached_cases
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset

Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A home with one dataset, cached at two sizes; answers with exit code, stdout and stderr."""
    home = tmp_path / "home"
    draw_dataset(tmp_path / "frames", num_cases=4, size=40)
    dataset = add_dataset(home, "drawn", tmp_path / "frames", allow_empty=True)
    for size in (32, 64):
        cached_cases([dataset], size, home / "cache")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(home))

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["orchestrator", *shlex.split(line)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def test_the_cache_is_listed_as_a_table_and_as_json(run):
    code, table, _ = run("data cache")
    assert code == 0
    assert table.count("drawn") == 3
    assert "original" in table and "last used" in table
    listed = json.loads(run("data cache --json")[1])
    assert {row["size"] for row in listed} == {"32", "64", "original"}
    assert all(row["dataset"] == "drawn" and row["in_use"] is False for row in listed)


def test_pruning_keeps_what_a_dataset_needs_unless_there_is_a_bound(run):
    code, text, _ = run("data cache --prune")
    assert (code, "removed 0 parts" in text) == (0, True)
    done = json.loads(run("data cache --prune --max-gb 0.00003 --json")[1])
    assert {row["size"] for row in done["kept"]} < {"32", "64", "original"}
    assert len(done["removed"]) + len(done["kept"]) == 3
    assert "removed" in run("data cache --prune --max-gb 0")[1]
    assert "is empty" in run("data cache")[1]


def test_a_bound_without_prune_is_refused(run):
    code, _, err = run("data cache --max-gb 3")
    assert code == 2
    assert "--max-gb" in err and "--prune" in err


def test_a_preview_is_a_picture_and_says_what_is_shown(run):
    code, text, _ = run("data preview drawn --augmentation all --size 64 --cases 2 --out sheet.png")
    assert code == 0
    assert all(name in text for name in NAMES if name != "none")
    picture = cv2.imread("sheet.png")
    assert picture.shape[1] == 6 + len(NAMES) * 70
    assert run("data preview drawn --size 64 --epoch 2")[0] == 0
    assert cv2.imread("preview.png").shape[1] == 6 + 6 * 70


def test_all_mistakes_in_a_preview_are_reported_at_once(run):
    code, _, err = run("data preview drawn --augmentation hard --out nosuch/sheet.jpg")
    assert code == 2
    for said in ("3 problems", "no pipeline is named 'hard'", "standard", ".png", "there is no folder"):
        assert said in err
    assert run("data preview drwan")[0] == 2
