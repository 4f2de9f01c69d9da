from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from orchestrator.results.views.overlay import PREDICTION, TRUTH, outlined, png


def square(side: int, low: int, high: int) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[low:high, low:high] = True
    return mask


def colors(image: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(int(value) for value in pixel) for pixel in image.reshape(-1, 3)}


def test_truth_and_prediction_have_colors_of_their_own_and_the_image_stays_as_it_was():
    image = np.zeros((64, 64, 3), np.uint8)
    drawn = outlined(image, square(64, 10, 30), square(64, 40, 60))
    assert tuple(drawn[10, 20]) == PREDICTION and tuple(drawn[40, 50]) == TRUTH
    assert tuple(drawn[20, 20]) == (0, 0, 0) and not image.any()


def test_both_outlines_show_where_they_agree():
    same = square(64, 16, 48)
    assert {PREDICTION, TRUTH} <= colors(outlined(np.zeros((64, 64, 3), np.uint8), same, same))


def test_lines_grow_with_the_image():
    def width(side: int) -> int:
        drawn = outlined(np.zeros((side, side, 3), np.uint8), square(side, side // 4, side // 2))
        return int(drawn[: side * 3 // 8, side * 3 // 8].any(axis=-1).sum())

    assert width(100) == 1 and width(1000) >= 5


def test_empty_masks_draw_nothing():
    image = np.full((20, 30, 3), 9, np.uint8)
    assert (outlined(image, np.zeros((20, 30), bool), np.zeros((20, 30), bool)) == 9).all()


def test_the_file_holds_the_colors_in_the_right_order(tmp_path: Path):
    image = np.full((20, 30, 3), (250, 120, 10), np.uint8)
    (tmp_path / "overlay.png").write_bytes(png(outlined(image, np.zeros((20, 30), bool))))
    assert cv2.imread(str(tmp_path / "overlay.png"))[0, 0].tolist() == [10, 120, 250]


def test_a_gray_png_keeps_its_values():
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert (cv2.imdecode(np.frombuffer(png(gray), np.uint8), cv2.IMREAD_UNCHANGED) == gray).all()
