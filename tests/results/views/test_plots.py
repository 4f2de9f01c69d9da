from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from orchestrator.results.views.plots import Tile, learning_curves, overlay_sheet, threshold_curve
from orchestrator.scoring.histograms import histogram
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.scoring.threshold import best_threshold


def decoded(picture: bytes) -> np.ndarray:
    """PNG -> RGB (H, W, 3)."""
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def ellipse(center: int) -> np.ndarray:
    y, x = np.mgrid[0:90, 0:120]
    return ((x - center) / 30) ** 2 + ((y - 45) / 20) ** 2 < 1


def tiles(count: int) -> list[Tile]:
    image = np.full((90, 120, 3), (190, 120, 100), np.uint8)
    return [
        Tile(f"Kvasir-SEG/cju0qkwl35piu0993l0dewei{number}", image, ellipse(60 + number), ellipse(60), 0.9)
        for number in range(count)
    ]


def curves(seed: int) -> list[dict[str, float]]:
    noise = np.random.default_rng(seed).normal(0, 0.02, 20)
    rise = 1 - np.exp(-np.arange(20) / 5)
    return [
        {"epoch": epoch, "train_loss": 1 - 0.8 * rise[epoch], "val_dice": 0.8 * rise[epoch] + noise[epoch]}
        for epoch in range(20)
    ]


def histograms(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    masks = [ellipse(int(rng.integers(40, 80))) for _ in range(count)]
    maps = [np.clip(0.6 * mask + rng.normal(0.2, 0.15, mask.shape), 0, 1) for mask in masks]
    return np.stack([histogram(each, mask) for each, mask in zip(maps, masks, strict=True)])


def test_a_sheet_shows_both_outlines_and_grows_by_rows(tmp_path: Path):
    one, three = decoded(overlay_sheet(tiles(4), "trial 3")), decoded(overlay_sheet(tiles(11), "trial 3"))
    assert three.shape[0] > 2 * one.shape[0] * 0.8
    red, green, blue = (three[..., channel].astype(int) for channel in range(3))
    assert ((red > 230) & (green > 200) & (blue < 60)).sum() > 500
    assert ((red < 90) & (blue > 220)).sum() > 500


def test_a_sheet_of_one_case_is_possible():
    assert decoded(overlay_sheet(tiles(1), "one")).size


def test_learning_curves_take_folds_of_different_length():
    assert decoded(learning_curves({"fold 0": curves(0), "fold 1": curves(1)[:7]}, "trial 3")).std() > 5


def test_the_loss_of_validation_is_drawn_where_it_was_computed():
    rows = curves(0)
    with_loss = [row | {"val_loss": row["train_loss"] + 0.1} for row in rows]
    assert learning_curves({"fold 0": with_loss}, "trial 3") != learning_curves({"fold 0": rows}, "trial 3")


def test_a_threshold_curve_marks_the_chosen_threshold():
    stack = histograms(10)
    threshold, _ = best_threshold(stack, 0.05, 0.95)
    picture = decoded(threshold_curve(stack, np.arange(10) % 5, PostProcess(threshold), "trial 3"))
    red = (picture[..., 0] > 180) & (picture[..., 1] < 110) & (picture[..., 2] < 50)
    assert red.sum() > 100


def test_plots_leave_pyplot_alone():
    overlay_sheet(tiles(1), "one")
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()
