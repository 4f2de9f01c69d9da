from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from orchestrator.data import augment
from orchestrator.data.augment import case_seed, pipeline

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (64, 64, 3), np.uint8)
MASK = np.zeros((64, 64), np.uint8)
MASK[10:30, 20:50] = 1
CORNERS = np.repeat(np.arange(4, dtype=np.uint8).reshape(2, 2, 1), 3, axis=2)


@pytest.mark.parametrize("name", augment.names())
def test_the_same_seed_gives_the_same_result_whatever_was_asked_before(name):
    change = pipeline(name, 64)
    expected = [change(IMAGE, MASK, seed) for seed in range(20)]
    for seed in reversed(range(20)):
        image, mask = change(IMAGE, MASK, seed)
        assert np.array_equal(image, expected[seed][0])
        assert np.array_equal(mask, expected[seed][1])


@pytest.mark.parametrize("name", augment.names())
def test_size_type_and_values_are_kept_and_the_input_is_not_touched(name):
    image_before, mask_before = IMAGE.copy(), MASK.copy()
    for seed in range(10):
        image, mask = pipeline(name, 64)(IMAGE, MASK, seed)
        assert (image.shape, image.dtype) == (IMAGE.shape, np.uint8)
        assert (mask.shape, mask.dtype) == (MASK.shape, np.uint8)
        assert set(np.unique(mask)) <= {0, 1}
    assert np.array_equal(IMAGE, image_before)
    assert np.array_equal(MASK, mask_before)


def test_none_changes_nothing():
    image, mask = pipeline("none", 64)(IMAGE, MASK, 5)
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(mask, MASK)


@pytest.mark.parametrize("name", ["flips", "standard"])
def test_other_seeds_give_other_images(name):
    images = {pipeline(name, 64)(IMAGE, MASK, seed)[0].tobytes() for seed in range(20)}
    assert len(images) >= (4 if name == "flips" else 18)


def test_flips_across_and_upright_are_drawn_independently():
    corners = [int(pipeline("flips", 2)(CORNERS, CORNERS[..., 0], seed)[1][0, 0]) for seed in range(200)]
    assert all(35 < corners.count(corner) < 65 for corner in (0, 1, 2, 3))


def test_the_mask_moves_with_the_image():
    frame = np.repeat(MASK[..., None] * np.uint8(255), 3, axis=2)
    for seed in range(30):
        image, mask = pipeline("standard", 64)(frame, MASK, seed)
        bright = image.mean(axis=2) > image.max() / 2
        assert np.mean(bright == mask) > 0.93


def test_a_pipeline_travels_to_another_process():
    change = pipeline("standard", 64)
    copy = pickle.loads(pickle.dumps(change))
    assert np.array_equal(copy(IMAGE, MASK, 3)[0], change(IMAGE, MASK, 3)[0])


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no augmentation is named 'hard'; known: none, flips, standard"):
        pipeline("hard", 64)


def test_the_seed_of_a_case_is_the_same_on_every_machine():
    assert case_seed(0, 0, "Clinic/1") == 3417087667
    seeds = {
        case_seed(seed, epoch, f"Clinic/{n}") for seed in range(5) for epoch in range(20) for n in range(20)
    }
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_importing_the_module_does_not_import_albumentations():
    code = "import sys, orchestrator.data.augment; print('albumentations' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
