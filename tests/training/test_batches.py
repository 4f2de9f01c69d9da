from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from drawn import CPU, drawn_cases, drawn_fit

from orchestrator.data.augmentation.pipelines import case_seed, pipeline
from orchestrator.data.cache.frames import CachedCases
from orchestrator.training.batches import (
    TrainingBatches,
    TrainingCases,
    as_tensors,
    on_device,
    prefetched,
    resized,
    scaled_size,
)
from orchestrator.training.recipe import Recipe

SCALES = (0.75, 1.0, 1.25)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> CachedCases:
    return drawn_cases(tmp_path_factory.mktemp("home"))


def batches(cases: CachedCases, stride: int = 8, **recipe) -> TrainingBatches:
    spec = drawn_fit(cases, **recipe)
    return TrainingBatches(cases, spec.train, spec.recipe, stride, CPU, loader_workers=0)


def sides(of: TrainingBatches, epoch: int) -> list[int]:
    return [image.shape[-1] for image, _ in of.epoch(epoch)]


def test_scaled_sizes_are_those_of_the_papers_code():
    assert [scaled_size(352, scale, 32) for scale in SCALES] == [256, 352, 448]
    assert [scaled_size(512, scale, 32) for scale in SCALES] == [384, 512, 640]
    assert scaled_size(32, 0.25, 32) == 32


def test_all_scales_come_and_a_batch_has_one(cases):
    multi = batches(cases, batch_size=2, scales=SCALES)
    seen = [side for epoch in range(30) for side in sides(multi, epoch)]
    assert set(seen) == {24, 32, 40}
    assert min(seen.count(side) for side in set(seen)) > len(seen) / 5
    for image, mask in multi.epoch(0):
        assert image.shape == (2, 3, *mask.shape[-2:])
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert 0 <= float(image.min()) <= float(image.max()) <= 1


def test_scales_depend_on_seed_epoch_and_step_alone(cases):
    recipe = {"batch_size": 2, "scales": SCALES}
    expected = [sides(batches(cases, **recipe), epoch) for epoch in range(4)]
    resumed = batches(cases, **recipe)
    assert [sides(resumed, epoch) for epoch in (3, 2)] == [expected[3], expected[2]]
    assert [sides(batches(cases, seed=1, **recipe), epoch) for epoch in range(4)] != expected
    assert len({tuple(epoch) for epoch in expected}) > 1


def test_one_scale_changes_nothing(cases):
    for (image, mask), (same, same_mask) in zip(
        batches(cases, scales="1").epoch(1), batches(cases).epoch(1), strict=True
    ):
        assert torch.equal(image, same) and torch.equal(mask, same_mask)


def test_a_larger_mask_is_the_same_shape_with_square_pixels():
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 1:3, 0:2] = 1
    image, larger = resized(mask.repeat(1, 3, 1, 1), mask, 8)
    expected = torch.zeros(8, 8)
    expected[2:6, 0:4] = 1
    assert torch.equal(larger[0, 0], expected)
    assert image.shape == (1, 3, 8, 8)


def test_frames_are_read_at_the_size_that_windows_are_cut_from(cases):
    batch = batches(cases, augmentation="resunet_pp")
    assert batch.cases.cases.image_size == 72
    assert cases.image_size == 32
    assert sides(batch, 0) == [32, 32]


@pytest.mark.parametrize("augmentation", ["standard", "att_unet"])
def test_threads_hand_over_what_one_makes_in_order(cases, augmentation):
    spec = drawn_fit(cases, num_train=20, augmentation=augmentation, batch_size=2, scales=SCALES)
    alone, together = (
        TrainingBatches(cases, spec.train, spec.recipe, 8, CPU, loader_workers) for loader_workers in (0, 4)
    )
    for epoch in range(6):
        for (image, mask), (same, same_mask) in zip(alone.epoch(epoch), together.epoch(epoch), strict=True):
            assert torch.equal(image, same) and torch.equal(mask, same_mask)


@pytest.mark.parametrize("augmentation", ["none", "flips", "gmsrf_net", "standard"])
def test_a_batch_is_made_of_the_augmented_cases_and_those_alone(cases, augmentation):
    spec = drawn_fit(cases, augmentation=augmentation)
    training = TrainingCases(cases, spec.recipe)
    keys = [(epoch, case_id) for epoch in (0, 3) for case_id in spec.train]
    for row, (epoch, case_id) in enumerate(keys):
        frame = cases.image(case_id), cases.mask(case_id)
        seed = case_seed(spec.recipe.seed, epoch, case_id)
        expected = as_tensors(*pipeline(augmentation, 32)(*frame, seed))
        for of in (training[epoch, case_id], [part[row] for part in training.batch(keys)]):
            assert all(torch.equal(item, other) for item, other in zip(of, expected, strict=True))


def test_every_byte_becomes_its_255th():
    values = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 3, 16, 16)
    image, mask = on_device(values, values[:, :1] % 2, CPU)
    assert torch.equal(image, values / 255) and image.max() == 1
    assert torch.equal(mask, (values[:, :1] % 2).float())


def test_threads_work_ahead_but_no_further_than_asked(cases):
    made = []
    with ThreadPoolExecutor(2) as threads:
        found = prefetched(lambda item: made.append(item) or -item, range(100), threads, ahead=4)
        assert [next(found), next(found)] == [0, -1]
        time.sleep(0.05)
        assert len(made) <= 6
        found.close()
    assert len(made) <= 6


def test_a_mistake_in_a_thread_ends_the_epoch_with_its_own_error(cases):
    batch = batches(cases, batch_size=2)
    broken = TrainingBatches(
        cases, (*drawn_fit(cases).train, "drawn/nosuch"), drawn_fit(cases, batch_size=3).recipe, 8, CPU, 2
    )
    with pytest.raises(KeyError, match="drawn/nosuch"):
        for epoch in range(3):
            list(broken.epoch(epoch))
    assert len(list(batch.epoch(0))) == 4


@pytest.mark.parametrize("scales", ["1.25, 0.75, 1", [1, 0.75, 1.25, 1], (0.75, 1, 1.25)])
def test_scales_are_written_in_any_order(scales):
    assert Recipe(scales=scales).scales == SCALES
    assert Recipe.model_validate_json(Recipe(scales=scales).model_dump_json()) == Recipe(scales=SCALES)


@pytest.mark.parametrize("scales", ["", "large", "0.1, 1", "nan", 1, True, [], [True, "a"]])
def test_what_are_no_scales_is_refused(scales):
    with pytest.raises(
        ValueError, match=r"Input should be (numbers with commas|one or more numbers from 0.25)"
    ):
        Recipe(scales=scales)


def test_images_keep_their_channels_and_pixels(cases):
    spec = drawn_fit(cases, augmentation="none", batch_size=8)
    order = np.random.default_rng((0, 0)).permutation(8)
    ((image, mask),) = TrainingBatches(cases, spec.train, spec.recipe, 8, CPU, 0).epoch(0)
    for row, index in enumerate(order):
        case_id = spec.train[index]
        np.testing.assert_array_equal(
            (image[row] * 255).round().permute(1, 2, 0).numpy(), cases.image(case_id)
        )
        np.testing.assert_array_equal(mask[row, 0].numpy(), cases.mask(case_id))
