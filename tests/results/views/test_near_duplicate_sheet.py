"""Sheets of near-duplicates: in an order that an audit can start with, a page at a time."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from orchestrator.cli import main
from orchestrator.data.cases import Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.near_duplicates.find import Leaks, NearDuplicate
from orchestrator.results.views import near_duplicate_sheet as pairs

COLORS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}


def dataset(home: Path, name: str) -> Dataset:
    source = home / f"{name}-source"
    for folder in ("images", "masks"):
        (source / folder).mkdir(parents=True)
    for number, (stem, color) in enumerate(COLORS.items()):
        frame = np.full((64, 128, 3), color, np.uint8)
        cv2.imwrite(str(source / "images" / f"{stem}.png"), frame[..., ::-1])
        mask = np.zeros((64, 128), np.uint8)
        mask[10 : 20 + number, 5:50] = 255
        cv2.imwrite(str(source / "masks" / f"{stem}.png"), mask)
    return add_dataset(home, name, source)


@pytest.fixture
def leaks(tmp_path: Path) -> Leaks:
    def pair(one: str, other: str, places: int) -> NearDuplicate:
        return NearDuplicate(one, other, "same scene", places, 0.5, 0.9)

    near_duplicates = (
        pair("a/blue", "a/red", 7),
        pair("a/blue", "b/green", 30),
        pair("a/red", "b/blue", 9),
        pair("b/green", "b/red", 6),
    )
    return Leaks((dataset(tmp_path, "a"), dataset(tmp_path, "b")), near_duplicates)


def test_pairs_between_datasets_come_first_and_the_doubtful_before_the_sure(leaks: Leaks):
    assert [pair.num_places for pair in pairs.in_order(leaks)] == [9, 30, 6, 7]


def test_both_frames_of_a_pair_stand_side_by_side_whole(leaks: Leaks):
    (page,) = pairs.pages(leaks)
    middle = pairs.GAP + pairs.SIDE // 2
    assert page[middle, middle].tolist() == list(COLORS["red"])
    assert page[middle, middle + pairs.SIDE + pairs.GAP].tolist() == list(COLORS["blue"])
    assert page[pairs.GAP + 2, middle].tolist() == list(pairs.PAPER)  # a wide frame is not cut


def test_pages_are_filled_one_after_the_other_up_to_a_limit(leaks: Leaks, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pairs, "ACROSS", 1)
    monkeypatch.setattr(pairs, "DOWN", 1)
    assert len(list(pairs.pages(leaks))) == 4
    monkeypatch.setattr(pairs, "MAX_PAGES", 3)
    assert len(list(pairs.pages(leaks))) == 3


def test_the_command_writes_pages_and_says_what_is_on_them(
    leaks: Leaks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("orchestrator.data.near_duplicates.find.find_near_duplicates", lambda *_: leaks)
    monkeypatch.setattr(pairs, "DOWN", 1)
    sheet = tmp_path / "twins.png"
    command = ["data", "leaks", "a", "b", "--home", str(tmp_path), "--sheet", str(sheet)]
    monkeypatch.setattr(sys, "argv", ["orchestrator", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "4 of 4 pairs on 2 pages" in capsys.readouterr().out
    assert sheet.exists() and sheet.with_stem("twins-2").exists()


def test_a_sheet_that_cannot_be_written_is_refused_before_the_search(
    leaks: Leaks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    command = ["data", "leaks", "a", "--home", str(tmp_path), "--sheet", str(tmp_path / "no" / "sheet.jpg")]
    monkeypatch.setattr(sys, "argv", ["orchestrator", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "ends in .png" in said and "there is no folder" in said
    assert not (tmp_path / "cache" / "leaks").exists()
