from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from orchestrator.common.errors import BadData
from orchestrator.data.phantom import draw_dataset


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "drawn"
    draw_dataset(folder, num_cases=40, size=48)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "groups.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def masks(folder: Path) -> list[np.ndarray]:
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((folder / "masks").iterdir())]


def test_every_drawn_image_has_a_mask_of_its_size_and_a_row(drawn):
    assert len(rows(drawn)) == 40
    for row in rows(drawn):
        image = cv2.imread(str(drawn / "images" / f"{row['name']}.jpg"))
        mask = cv2.imread(str(drawn / "masks" / f"{row['name']}.png"), cv2.IMREAD_UNCHANGED)
        assert image.shape[:2] == mask.shape
        assert set(np.unique(mask)) <= {0, 255}


def test_drawing_again_with_the_same_seed_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        draw_dataset(tmp_path / name, num_cases=5, size=40, seed=7)
    for first in (tmp_path / "a").rglob("*.*"):
        assert first.read_bytes() == (tmp_path / "b" / first.relative_to(tmp_path / "a")).read_bytes()


def test_another_seed_draws_other_frames(tmp_path):
    for seed in (0, 1):
        draw_dataset(tmp_path / str(seed), num_cases=1, size=40, seed=seed)
    first, second = ((tmp_path / str(seed) / "images/video000_frame0.jpg").read_bytes() for seed in (0, 1))
    assert first != second


def test_some_frames_hold_no_polyp_and_the_others_hold_a_visible_one(drawn):
    shares = [np.mean(mask > 127) for mask in masks(drawn)]
    assert 1 <= sum(share == 0 for share in shares) <= 10
    assert all(share == 0 or 0.003 < share < 0.7 for share in shares)


def test_sequences_stay_within_one_center_and_three_centers_take_part(drawn):
    center_of_group = {row["group"]: row["center"] for row in rows(drawn)}
    assert all(center_of_group[row["group"]] == row["center"] for row in rows(drawn))
    assert set(center_of_group.values()) == {"center1", "center2", "center3"}


def test_a_folder_that_holds_files_is_not_drawn_over(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(BadData, match="new or empty folder"):
        draw_dataset(tmp_path, num_cases=1, size=40)
