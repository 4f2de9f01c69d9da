import colorsys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.data.augmentation.color import Blur, ChannelShift, Light, Sharpen, Value, gray
from orchestrator.data.augmentation.geometry import (
    Affine,
    Corners,
    Crop,
    Cutout,
    Elastic,
    MaskEdge,
    Move,
    RotateWhole,
    rotation,
    warp,
)
from orchestrator.data.augmentation.steps import Library, OneOf, samples

SIDE = 65  # odd: there is a pixel in the middle
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
DISK = cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (20, 40), 9, 1, -1)
EMPTY = np.zeros((SIDE, SIDE), np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def flat(*color: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), color, np.uint8)


def center_of(mask: np.ndarray) -> np.ndarray:
    """(x, y) of the middle of a mask."""
    return np.argwhere(mask).mean(axis=0)[::-1]


@given(st.integers(0, 2**32 - 1), st.floats(-180, 180), st.floats(0.6, 1.4))
@settings(max_examples=40, deadline=None)
def test_a_moved_mask_is_the_moved_image(seed, degrees, scale):
    """Image and mask share one interpolation: where the drawn disk is, the mask is."""
    image = np.repeat(DISK[..., None] * np.uint8(255), 3, axis=2)
    turned = Affine(p=1, shift=(-0.1, 0.1), scale=(scale, scale), rotate=(degrees, degrees))
    moved, mask = Move(flip=0.5, turn=0.5, affine=(turned,))(image, DISK, rng(seed))
    assert np.array_equal(moved[..., 0] > 127, mask.astype(bool))


def test_affine_maps_scale_areas_and_keep_the_middle():
    middle = cv2.circle(EMPTY.copy(), (32, 32), 12, 1, -1)
    for scale in (0.5, 1.5):
        move = Move(affine=(Affine(p=1, scale=(scale, scale), rotate=(30, 30)),))
        mask = move(NOISE, middle, rng())[1]
        assert center_of(mask) == pytest.approx((32, 32), abs=0.1)
        assert mask.sum() / middle.sum() == pytest.approx(scale**2, rel=0.06)


def test_rotation_turns_counter_clockwise_by_degrees():
    mask = Move(affine=(Affine(p=1, rotate=(90, 90)),))(NOISE, DISK, rng())[1]
    assert np.array_equal(mask, np.rot90(DISK))


def test_a_shift_is_a_share_of_the_side():
    mask = Move(affine=(Affine(p=1, shift=(0.2, 0.2)),))(NOISE, DISK, rng())[1]
    assert center_of(mask) == pytest.approx((20 + 13, 40 + 13), abs=0.1)


def test_two_affine_maps_are_applied_in_their_order_and_interpolated_once():
    shift, turn = Affine(p=1, shift=(0.2, 0.2)), Affine(p=1, rotate=(90, 90))
    mask = Move(affine=(shift, turn))(NOISE, DISK, rng())[1]
    assert center_of(mask) == pytest.approx((33 + 20, 64 - 33), abs=0.1)


def test_flips_and_quarter_turns_lose_nothing():
    seen = {Move(flip=0.5, turn=1)(NOISE, DISK, rng(seed))[0].tobytes() for seed in range(200)}
    expected = {
        np.ascontiguousarray(np.rot90(side, turns)).tobytes()
        for side in (NOISE, NOISE[:, ::-1])
        for turns in range(4)
    }
    assert seen == expected


@pytest.mark.parametrize("seed", range(20))
def test_exact_moves_before_an_affine_map_are_those_without_one(seed):
    turned = Affine(p=1, shift=(-0.1, 0.1), scale=(0.75, 1.25), rotate=(-30, 30))
    image, mask = Move(flip=0.5, turn=0.5, affine=(turned,))(NOISE, DISK, rng(seed))
    same = rng(seed)
    flipped = Move(flip=0.5, turn=0.5)(NOISE, DISK, same)
    expected = warp(*flipped, turned.matrix(SIDE, same), cv2.BORDER_CONSTANT)
    # One map in place of two moves places by a rounding error, of which processors make different ones.
    assert np.mean(cv2.absdiff(image, expected[0]) > 1) < 0.01
    assert np.count_nonzero(mask != expected[1]) <= 2


@given(st.floats(-360, 360), st.floats(0.1, 4), st.integers(1, 2000))
@settings(max_examples=200, deadline=None)
def test_a_rotation_is_that_of_opencv(degrees, scale, size):
    center = ((size - 1) / 2,) * 2
    assert np.array_equal(rotation(degrees, scale, size)[:2], cv2.getRotationMatrix2D(center, degrees, scale))


def test_numbers_drawn_together_are_those_drawn_one_by_one():
    ranges = [(-0.1, 0.1), (0.75, 1.25), (-30, 30), (2, 2)]
    one_by_one = rng(3)
    assert samples(rng(3), *ranges) == pytest.approx([one_by_one.uniform(*one) for one in ranges], rel=1e-15)


@pytest.mark.parametrize("most", [3, 5, 7, 11])
def test_blur_is_that_of_albumentations_bit_for_bit(most):
    """Fits made with the library's own transforms see the same images when they go on."""
    blur, changed = Blur(p=0.8, most=most), 0
    usual = Library(
        0.8,
        lambda A: A.OneOf(  # noqa: N803
            [A.GaussianBlur(blur_limit=(3, most), p=1), A.MotionBlur(blur_limit=(3, most), p=1)], p=1
        ),
    )
    for seed in range(150):
        here, there = rng(seed), rng(seed)
        image, mask = blur(NOISE, DISK, here)
        assert np.array_equal(image, usual(NOISE, DISK, there)[0]) and mask is DISK
        assert here.random() == there.random()
        changed += image is not NOISE
    assert 100 < changed < 140


def test_corners_go_astray_by_no_more_than_their_share():
    for seed in range(20):
        matrix = Corners(p=1, share=0.1).matrix(300, rng(seed))
        moved = matrix @ np.array([(250, 250, 1), (250, 50, 1), (50, 50, 1)], float).T
        shifts = moved[:2].T - [(250, 250), (250, 50), (50, 50)]
        assert 1 < np.abs(shifts).max() <= 30.001


def test_a_whole_frame_is_still_seen_after_its_rotation():
    for degrees in (0, 20, 45, 70, 90):
        mask = np.ones((SIDE, SIDE), np.uint8)
        moved = RotateWhole(degrees=(degrees, degrees))(NOISE, mask, rng())[1]
        size = 1 / (np.cos(np.radians(degrees)) + np.sin(np.radians(degrees)))
        assert moved.sum() == pytest.approx((size * SIDE) ** 2, rel=0.05)
        assert degrees % 90 == 0 or not moved[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_a_crop_takes_a_square_window_in_the_middle_or_anywhere():
    rows, columns = np.indices((SIDE, SIDE))
    place = np.stack((rows, columns, columns), axis=2).astype(np.uint8)
    middle, _ = Crop(share=(0.6, 0.6), centered=True)(place, EMPTY, rng())
    assert (middle.shape, tuple(middle[0, 0, :2])) == ((39, 39, 3), (13, 13))
    starts = {
        tuple(Crop(share=(0.6, 0.6))(place, EMPTY, rng(seed))[0][0, 0, :2].tolist()) for seed in range(400)
    }
    assert {row for row, _ in starts} == {column for _, column in starts} == set(range(27))


def test_a_cutout_takes_the_mean_value_and_the_polyp_away():
    image, mask = np.full_like(NOISE, 90), np.ones_like(EMPTY)
    image[0, 0] = 255  # the mean rounds to 90
    for seed in range(30):
        cut, cut_mask = Cutout(share=0.4)(image, mask, rng(seed))
        hole = cut_mask == 0
        assert 13 * 13 <= hole.sum() <= 26 * 26
        assert set(np.unique(cut[hole])) == {90}
    assert mask.all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Light(p=1, brightness=(1.5, 1.5)), (150, 90, 60)),
        (Light(p=1, saturation=(0, 0)), (70, 70, 70)),
        (Light(p=1, saturation=(2, 2)), (130, 50, 10)),
        (Light(p=1, contrast=(0.5, 0.5)), (85, 65, 55)),
        (Light(p=1, hue=(120, 120)), (40, 100, 60)),
        (Value((1.5, 1.5)), (150, 90, 60)),
        (Value((3, 3)), (255, 153, 102)),  # clipped, and of the same hue
        (gray, (70, 70, 70)),
        (ChannelShift(p=1, limit=0), (100, 60, 40)),
    ],
)
def test_colors_change_as_computed_by_hand(change, expected):
    image, mask = change(flat(100, 60, 40), DISK, rng())  # luma 69.7
    assert np.abs(image[5, 5].astype(int) - expected).max() <= 1
    assert mask is DISK


def test_a_turn_of_hue_is_that_of_hsv():
    turned = Light(p=1, hue=(10, 10))(flat(150, 120, 110), EMPTY, rng())[0][0, 0] / 255
    before = colorsys.rgb_to_hsv(150 / 255, 120 / 255, 110 / 255)
    after = colorsys.rgb_to_hsv(*turned)
    assert (after[0] - before[0]) * 360 == pytest.approx(10, abs=2)
    assert after[1:] == pytest.approx(before[1:], abs=0.03)


def test_brightness_and_contrast_clip_and_do_not_wrap():
    image, _ = Light(p=1, brightness=(1.9, 1.9), contrast=(1.9, 1.9))(NOISE, EMPTY, rng())
    assert (image[NOISE > 240] > 200).all()
    assert (image[NOISE < 10] < 50).all()


def test_channels_shift_by_themselves_and_by_no_more_than_the_limit():
    shifts = np.array(
        [
            ChannelShift(p=1, limit=10)(flat(100, 100, 100), EMPTY, rng(seed))[0][0, 0] - 100.0
            for seed in range(100)
        ]
    )
    assert np.abs(shifts).max() == 10
    assert np.abs(np.corrcoef(shifts.T) - np.eye(3)).max() < 0.35


def test_sharpening_makes_edges_steeper_and_leaves_flat_parts():
    image = flat(50, 50, 50)
    image[:, 32:] = 150
    sharp = Sharpen(p=1, factor=(2, 2))(image, EMPTY, rng())[0].astype(int)
    assert sharp[30, 32, 0] - sharp[30, 31, 0] > 100
    assert np.array_equal(sharp[:, :30], image[:, :30])


def test_elastic_moves_pixels_by_about_alpha_over_sigma():
    """Noise of deviation 1/sqrt(3), smoothed by a Gaussian of sigma, has 1/sqrt(3) / (2 sigma sqrt(pi))."""
    shift = np.concatenate([Elastic(1, alpha=100, sigma=4)._shift((200, 200), rng(s)) for s in range(4)])
    assert shift.std() == pytest.approx(100 / np.sqrt(3) / (2 * 4 * np.sqrt(np.pi)), rel=0.15)
    image = np.repeat(DISK[..., None] * np.uint8(255), 3, axis=2)
    moved, mask = Elastic(p=1, alpha=100, sigma=4)(image, DISK, rng(1))
    assert np.array_equal(moved[..., 0] > 127, mask.astype(bool))
    assert 0 < (mask != DISK).sum() < DISK.sum()


def test_edges_of_a_mask_grow_and_shrink_a_third_of_the_time_each():
    areas = np.array(
        [int(MaskEdge(1 / 3, (2, 4))(NOISE, DISK, rng(seed))[1].sum()) for seed in range(600)]
    ) - int(DISK.sum())
    assert np.mean(areas > 0) == pytest.approx(1 / 3, abs=0.06)
    assert np.mean(areas < 0) == pytest.approx(1 / 3, abs=0.06)


def test_one_of_several_steps_is_drawn_by_weight():
    choice = OneOf((1, gray), (3, ChannelShift(p=0, limit=0)))
    kept = [choice(NOISE, DISK, rng(seed))[0] is NOISE for seed in range(800)]
    assert np.mean(kept) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("step", [Light(p=0.3, brightness=(2, 2)), Sharpen(p=0.3, factor=(2, 2))])
def test_a_probability_is_how_often_a_step_acts(step):
    acted = [step(NOISE, DISK, rng(seed))[0] is not NOISE for seed in range(600)]
    assert np.mean(acted) == pytest.approx(0.3, abs=0.06)
