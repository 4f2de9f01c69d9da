from __future__ import annotations

import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest
from drawn import drawn_cases, drawn_fit

from orchestrator.data.augmentation import pipelines as augment
from orchestrator.data.augmentation.names import NAMES
from orchestrator.data.augmentation.pipelines import Pipeline, case_seed, pipeline
from orchestrator.data.augmentation.steps import resize_frame
from orchestrator.training.batches import TrainingCases

RNG = np.random.default_rng(0)
CORNERS = np.repeat(np.arange(4, dtype=np.uint8).reshape(2, 2, 1), 3, axis=2)
MOVED = [name for name in NAMES if name != "none"]


def frame_for(change: Pipeline) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and a rectangle as mask, of the size that the pipeline reads; not to be written to, as in the cache."""
    side = change.source_size
    image = RNG.integers(0, 256, (side, side, 3), np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 6 : side // 2, side // 3 : side * 3 // 4] = 1
    for part in (image, mask):
        part.setflags(write=False)
    return image, mask


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_result_whatever_was_asked_before(name):
    change = pipeline(name, 64)
    image, mask = frame_for(change)
    expected = [change(image, mask, seed) for seed in range(20)]
    again = pipeline(name, 64)
    for seed in reversed(range(20)):
        for one, other in zip(again(image, mask, seed), expected[seed], strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_seen_after_a_resume_is_the_epoch_that_was_missed(name, tmp_path):
    cases = drawn_cases(tmp_path, num_cases=6)
    recipe = drawn_fit(cases, augmentation=name).recipe
    keys = [(epoch, case.id) for epoch in range(3) for case in cases.datasets[0].cases]
    undisturbed = [TrainingCases(cases, recipe)[key] for key in keys]
    resumed = TrainingCases(cases, recipe)
    for key, expected in list(zip(keys, undisturbed, strict=True))[len(keys) // 2 :]:
        assert all((one == other).all() for one, other in zip(resumed[key], expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_size_type_and_values_are_right_and_the_input_is_not_touched(name):
    change = pipeline(name, 64)
    frame = frame_for(change)
    before = [part.copy() for part in frame]
    for seed in range(40):
        image, mask = change(*frame, seed)
        assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((64, 64), np.uint8)
        assert set(np.unique(mask)) <= {0, 1}
    assert all(np.array_equal(part, old) for part, old in zip(frame, before, strict=True))


@pytest.mark.parametrize("name", MOVED)
def test_the_mask_moves_with_the_image(name):
    """A bright polyp on dark tissue stays bright, and nothing else gets bright; a cut-out or flare hides some of it."""
    change = pipeline(name, 96)
    mask = frame_for(change)[1]
    image = np.repeat(np.where(mask, 220, 40).astype(np.uint8)[..., None], 3, axis=2)
    agreed = []
    for seed in range(60):
        moved, moved_mask = change(image, mask, seed)
        value = moved.mean(axis=2)
        agreed.append(np.mean((value > (value.max() + value.min()) / 2) == moved_mask))
    assert np.median(agreed) > 0.98
    assert np.mean(np.array(agreed) > 0.93) > 0.8


def test_none_changes_nothing():
    change = pipeline("none", 64)
    image, mask = frame_for(change)
    assert np.array_equal(change(image, mask, 5)[0], image)
    assert np.array_equal(change(image, mask, 5)[1], mask)


@pytest.mark.parametrize("name", MOVED)
def test_other_seeds_give_other_images(name):
    change = pipeline(name, 64)
    frame = frame_for(change)
    images = {change(*frame, seed)[0].tobytes() for seed in range(40)}
    assert len(images) >= {"flips": 4, "att_unet": 20, "resunet_pp": 25}.get(name, 30)


def test_flips_across_and_upright_are_drawn_independently():
    flips, no_members = pipeline("flips", 2), np.zeros((2, 2), np.uint8)
    corners = [int(flips(CORNERS, no_members, seed)[0][0, 0, 0]) for seed in range(1000)]
    assert all(200 < corners.count(corner) < 300 for corner in (0, 1, 2, 3))


def test_one_of_31_stored_copies_is_drawn_as_often_as_the_code_stores_it():
    """Of the 31, 8 are grey; of the other 23, one is the frame itself, and 5 are rotated with black around them."""
    change = pipeline("resunet_pp_code", 32)
    side = change.source_size
    image = np.full((side, side, 3), (200, 100, 50), np.uint8)
    mask = np.zeros((side, side), np.uint8)
    seen = [change(image, mask, seed)[0] for seed in range(1500)]
    gray = np.mean([bool((one[..., 0] == one[..., 2]).all()) and one.mean() > 1 for one in seen])
    black = np.mean([bool((one.sum(axis=2) == 0).mean() > 0.02) for one in seen])
    assert gray == pytest.approx(8 / 31, abs=0.04)
    assert black == pytest.approx(5 / 31, abs=0.04)


def test_a_window_of_320_of_576_pixels_becomes_the_whole_frame_of_256():
    change = pipeline("resunet_pp", 256)
    assert change.source_size == 576
    columns = np.arange(576, dtype=np.float32)
    ramp = np.repeat(np.tile(columns * 255 / 575, (576, 1)).astype(np.uint8)[..., None], 3, axis=2)
    spans = []
    for seed in range(80):
        image, _ = change(ramp, np.zeros((576, 576), np.uint8), seed)
        row = image[128, :, 0].astype(int)
        if (np.diff(row) >= 0).all():  # neither flipped nor rotated nor cut out
            spans.append((row[-1] - row[0]) * 575 / 255)
    assert sum(span == pytest.approx(320, abs=8) for span in spans) >= 15


def test_a_pipeline_travels_to_another_process():
    change = pipeline("standard", 64)
    frame = frame_for(change)
    assert np.array_equal(pickle.loads(pickle.dumps(change))(*frame, 3)[0], change(*frame, 3)[0])


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"expected none, flips, standard, .*; found 'hard'"):
        pipeline("hard", 64)


def test_every_pipeline_says_where_it_comes_from():
    for name in NAMES:
        assert augment.summary(name).endswith("."), name
        assert inspect.getdoc(augment._PIPELINES[name])


def test_frames_larger_than_asked_for_are_averaged_and_not_sampled():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[::2] = 200
    image, mask = resize_frame(stripes, stripes[..., 0] // 200, 64)
    assert set(np.unique(image)) == {100}
    assert mask.shape == (64, 64)


def test_the_seed_of_a_case_is_the_same_on_every_machine():
    assert case_seed(0, 0, "Clinic/1") == 3417087667
    seeds = {
        case_seed(seed, epoch, f"Clinic/{n}") for seed in range(5) for epoch in range(20) for n in range(20)
    }
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_standard_pipeline_does_not_import_albumentations():
    code = """
import sys, numpy as np
from orchestrator.data.augmentation.pipelines import pipeline
change, frame = pipeline("standard", 8), np.zeros((8, 8, 3), np.uint8)
for seed in range(50):
    change(frame, frame[..., 0], seed)
print("albumentations" in sys.modules)
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def mean_change(strength: float) -> float:
    change = pipeline("rand_augment", 32, strength)
    image, mask = frame_for(change)
    plain = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
    return float(
        np.mean(
            [
                min(np.abs(change(image, mask, seed)[0].astype(int) - one).mean() for one in plain)
                for seed in range(60)
            ]
        )
    )


def test_all_magnitudes_of_rand_augment_follow_one_number_from_flips_alone():
    changes = [mean_change(strength) for strength in (0.0, 0.2, 0.6, 1.0)]
    assert changes == sorted(changes) and changes[0] < 1e-9 < changes[1]
