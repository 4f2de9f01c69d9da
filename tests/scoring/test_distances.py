from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.spatial.distance import directed_hausdorff

from orchestrator.scoring.distances import distances, outline

MASK_PAIRS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape))
)


def rectangle(rows: slice, columns: slice, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


TRUTH = rectangle(slice(20, 40), slice(20, 50))
OTHER = rectangle(slice(22, 44), slice(25, 60))
EMPTY = np.zeros((60, 80), dtype=bool)
DIAGONAL = 100.0  # of 60 x 80


def hausdorff(predicted: np.ndarray, truth: np.ndarray) -> float:
    return distances(predicted, truth)["hausdorff"]


def hausdorff95(predicted: np.ndarray, truth: np.ndarray) -> float:
    return distances(predicted, truth)["hausdorff95"]


def boundary_f(predicted: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    return distances(predicted, truth, tolerance=tolerance)["boundary_f"]


def test_two_rectangles_lie_as_far_apart_as_the_reference_says():
    assert hausdorff(OTHER, TRUTH) == pytest.approx(10.770330, abs=1e-6)


def test_a_mask_moved_down_ten_rows_lies_ten_pixels_away():
    assert distances(np.roll(TRUTH, 10, axis=0), TRUTH)["hausdorff"] == 10.0


def test_two_discs_score_what_medpy_and_monai_print():
    y, x = np.mgrid[0:96, 0:128]
    truth = (x - 60) ** 2 + (y - 48) ** 2 <= 30**2
    predicted = ((x - 66) / 1.3) ** 2 + (y - 45) ** 2 <= 24**2
    predicted |= rectangle(slice(4, 9), slice(110, 116), truth.shape)
    # MedPy 0.5.2 prints the first; MONAI 1.6.1: the same, and the larger of the two 95th percentiles.
    assert hausdorff(predicted, truth) == pytest.approx(40.459857, abs=1e-6)
    assert hausdorff95(predicted, truth) == pytest.approx(37.3006, abs=1e-4)


@settings(max_examples=150, deadline=None)
@given(MASK_PAIRS)
def test_the_outline_is_the_mask_less_its_erosion(pair):
    assert np.array_equal(outline(pair[0]), pair[0] & ~binary_erosion(pair[0]))


@settings(max_examples=150, deadline=None)
@given(MASK_PAIRS)
def test_hausdorff_equals_that_of_scipy_on_the_outlines(pair):
    points = [np.argwhere(outline(mask)) for mask in pair]
    if all(map(len, points)):
        both = (directed_hausdorff(*points)[0], directed_hausdorff(*reversed(points))[0])
        assert hausdorff(*pair) == pytest.approx(max(both), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(MASK_PAIRS)
def test_gaps_equal_those_of_a_distance_transform(pair):
    predicted, truth = map(outline, pair)
    if predicted.any() and truth.any():
        to_truth = distance_transform_edt(~truth)[predicted]
        to_predicted = distance_transform_edt(~predicted)[truth]
        expected = max(np.percentile(to_truth, 95), np.percentile(to_predicted, 95))
        assert hausdorff95(*pair) == pytest.approx(expected, abs=1e-12)
        near = [np.mean(gaps <= 0.1 * np.hypot(*truth.shape)) for gaps in (to_truth, to_predicted)]
        expected_f = 2 * near[0] * near[1] / sum(near) if sum(near) else 0.0
        assert boundary_f(*pair, tolerance=0.1) == pytest.approx(expected_f)


@settings(max_examples=150, deadline=None)
@given(MASK_PAIRS)
def test_distances_are_symmetric_stay_in_range_and_survive_turning_the_image(pair):
    found = distances(*pair)
    assert found == pytest.approx(distances(pair[1], pair[0]))
    assert found == pytest.approx(distances(pair[0].T, pair[1].T))
    assert 0 <= found["hausdorff95"] <= found["hausdorff"] <= np.hypot(*pair[0].shape)
    assert all(0 <= found[name] <= 1 for name in found if name not in ("hausdorff", "hausdorff95"))


@settings(max_examples=50, deadline=None)
@given(MASK_PAIRS)
def test_a_mask_lies_on_itself(pair):
    assert list(distances(pair[0], pair[0]).values()) == [0, 0, 0, 0, 1, 1]


def test_the_tolerance_is_a_share_of_the_diagonal():
    moved = np.roll(TRUTH, 5, axis=1)
    assert boundary_f(moved, TRUTH, tolerance=0.05) == 1.0
    assert boundary_f(moved, TRUTH, tolerance=0.0499) < 1.0


def test_nothing_there_and_nothing_predicted_is_no_distance():
    assert distances(EMPTY, EMPTY) == {
        "hausdorff": 0,
        "hausdorff95": 0,
        "hausdorff_normalised": 0,
        "hausdorff95_normalised": 0,
        "boundary_f": 1,
        "nsd": 1,
    }


@pytest.mark.parametrize("pair", [(EMPTY, TRUTH), (TRUTH, EMPTY)])
def test_one_empty_mask_costs_the_diagonal(pair):
    assert distances(*pair) == {
        "hausdorff": DIAGONAL,
        "hausdorff95": DIAGONAL,
        "hausdorff_normalised": 1,
        "hausdorff95_normalised": 1,
        "boundary_f": 0,
        "nsd": 0,
    }


@pytest.mark.parametrize(
    ("predicted", "problem"), [(np.zeros((3, 4), bool), "of one shape"), (np.zeros((60, 80)), "boolean")]
)
def test_masks_that_do_not_fit_are_refused(predicted, problem):
    with pytest.raises(ValueError, match=problem):
        hausdorff(predicted, TRUTH)


def test_a_tolerance_below_zero_is_refused():
    with pytest.raises(ValueError, match="tolerance"):
        boundary_f(TRUTH, TRUTH, tolerance=-0.1)


def test_normalised_surface_dice_counts_the_pixels_of_both_outlines():
    truth = rectangle(slice(20, 30), slice(20, 30))  # 36 pixels of outline
    longer = rectangle(slice(20, 30), slice(20, 34))  # 44, of which 4 x 2 + 8 lie beyond the column 29
    found = distances(longer, truth, tolerance=0)["nsd"]
    shared = 36 - 8  # of the truth's outline, without the inner part of its last column
    assert found == pytest.approx(2 * shared / (36 + 44))
    assert distances(EMPTY, EMPTY)["nsd"] == distances(TRUTH, TRUTH)["nsd"] == 1.0
    assert distances(EMPTY, TRUTH)["nsd"] == 0.0
