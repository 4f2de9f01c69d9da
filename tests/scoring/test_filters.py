from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from orchestrator.scoring.filters import filter_bins

EIGHT_NEIGHBOURS = np.ones((3, 3))
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
# Few levels, so that plateaus, holes and components occur; 1, 254 and 255 are where an off-by-one would hide.
LEVELS = st.sampled_from([0, 1, 2, 90, 128, 254, 255])
MAPS = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=LEVELS))


def filtered_mask(mask: np.ndarray, fill_holes: bool, min_component_area: float) -> np.ndarray:
    """What the operators mean, for one mask, in SciPy's words."""
    if fill_holes:
        mask = ndimage.binary_fill_holes(mask)
    labels, _ = ndimage.label(mask, EIGHT_NEIGHBOURS)
    areas = np.bincount(labels.ravel())
    return mask & (areas[labels] >= min_component_area * mask.size)


def smooth_map(seed: int, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


@settings(max_examples=250, deadline=None)
@given(MAPS, st.booleans(), st.sampled_from([0.0, 0.02, 0.1, 0.25, 0.5, 1.0]))
def test_filtering_and_thresholding_commute(bins, fill_holes, min_component_area):
    filtered = filter_bins(bins, fill_holes, min_component_area)
    for level in (1, 2, 50, 90, 91, 128, 200, 254, 255):
        expected = filtered_mask(bins >= level, fill_holes, min_component_area)
        assert np.array_equal(filtered >= level, expected)


@pytest.mark.parametrize("seed", range(3))
def test_a_smooth_map_is_filtered_exactly_at_all_255_thresholds(seed):
    bins = smooth_map(seed)
    filtered = filter_bins(bins, True, 0.02)
    for level in range(1, 256):
        assert np.array_equal(filtered >= level, filtered_mask(bins >= level, True, 0.02))


@settings(max_examples=60, deadline=None)
@given(MAPS, st.booleans(), st.sampled_from([0.0, 0.1, 0.4]))
def test_filtering_twice_changes_nothing_more(bins, fill_holes, min_component_area):
    once = filter_bins(bins, fill_holes, min_component_area)
    assert np.array_equal(filter_bins(once, fill_holes, min_component_area), once)


def test_a_hole_is_filled_to_the_height_of_its_rim_and_a_bay_is_not():
    ring = np.zeros((7, 7), np.uint8)
    ring[1:6, 1:6] = 200
    ring[2:5, 2:5] = 10
    assert (filter_bins(ring, True, 0)[2:5, 2:5] == 200).all()
    ring[3, 5] = 50  # a gap in the rim
    assert (filter_bins(ring, True, 0)[2:5, 2:5] == 50).all()
    ring[3, 5:] = 10  # open to the edge
    assert (filter_bins(ring, True, 0)[2:5, 2:5] == 10).all()


def test_a_component_of_just_the_area_stays():
    bins = np.zeros((10, 10), np.uint8)
    bins[0, :4] = 180
    assert filter_bins(bins, False, 0.04).max() == 180
    assert filter_bins(bins, False, 0.041).max() == 0


def test_pixels_that_touch_across_a_corner_are_one_component():
    bins = np.diag(np.full(5, 255, np.uint8))
    assert filter_bins(bins, False, 0.2).sum() == 5 * 255


def test_without_filters_the_map_stays_as_it_is():
    bins = smooth_map(0)
    assert np.array_equal(filter_bins(bins, False, 0), bins)


def test_filtering_leaves_its_input_alone():
    bins = smooth_map(1)
    before = bins.copy()
    filter_bins(bins, True, 0.05)
    assert np.array_equal(bins, before)


@pytest.mark.parametrize(
    ("bins", "area", "problem"),
    [
        (np.zeros((3, 3)), 0, "uint8"),
        (np.zeros((1, 3, 3), np.uint8), 0, r"\(H, W\)"),
        (np.zeros((3, 3), np.uint8), 1.5, "share"),
        (np.zeros((3, 3), np.uint8), np.nan, "share"),
    ],
)
def test_what_cannot_be_filtered_is_refused(bins, area, problem):
    with pytest.raises(ValueError, match=problem):
        filter_bins(bins, True, area)
