from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn import drawn_cases, drawn_fit

from orchestrator.data.cache.frames import CachedCases, read_sized
from orchestrator.results.views.augmentation_preview import NUM_EPOCHS, sheet, spread, tile
from orchestrator.results.views.overlay import PREDICTION, outlined
from orchestrator.training.batches import TrainingCases


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> CachedCases:
    return drawn_cases(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("name", ["standard", "resunet_pp"])
def test_a_tile_is_what_a_fit_is_given_at_that_epoch_with_its_mask_outlined(cases, name):
    spec = drawn_fit(cases, augmentation=name, seed=3)
    image, mask = TrainingCases(cases, spec.recipe)[2, spec.train[1]]
    expected = outlined(image.permute(1, 2, 0).numpy(), mask[0].numpy().astype(bool))
    shown = tile(cases.case(spec.train[1]), name, 32, epoch=2, seed=3)
    np.testing.assert_array_equal(shown, expected)
    assert (shown == PREDICTION).all(axis=2).any()


def test_a_sheet_shows_the_frame_first_then_epochs_or_pipelines(cases):
    shown = spread(cases.datasets[0].cases, 3)
    one = sheet(shown, ["flips"], 64, epoch=4)
    several = sheet(shown, ["flips", "standard"], 64, epoch=4)
    assert one.shape[0] == several.shape[0]
    assert one.shape[1] - several.shape[1] == (NUM_EPOCHS - 2) * (64 + 6)
    image, mask = read_sized(shown[0], 64)
    top = next(
        row for row in range(len(one)) if (one[row : row + 64, 6:70] == outlined(image, mask > 0)).all()
    )
    np.testing.assert_array_equal(one[top : top + 64, 76:140], tile(shown[0], "flips", 64, 4, 0))
    np.testing.assert_array_equal(several[top : top + 64, 146:210], tile(shown[0], "standard", 64, 4, 0))


def test_cases_are_taken_from_first_to_last(cases):
    known = cases.datasets[0].cases
    assert spread(known, 3) == (known[0], known[12], known[23])
    assert spread(known, 100) == known


def test_a_preview_decodes_no_more_than_it_shows(cases, monkeypatch, tmp_path: Path):
    known = cases.datasets[0].cases
    opened: list[str] = []
    monkeypatch.setattr(
        "orchestrator.results.views.augmentation_preview.read_sized",
        lambda case, size: opened.append(case.id) or read_sized(case, size),
    )
    sheet(spread(known, 2), ["none"], 32, 0)
    assert set(opened) == {known[0].id, known[23].id}
