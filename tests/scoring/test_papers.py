from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.spatial.distance import cdist
from sklearn import metrics as sklearn_metrics

from orchestrator.scoring.papers.registry import PAPER_SCORES, paper_scores

NAMES = sorted(PAPER_SCORES)
BY_IMAGE = [name for name in NAMES if PAPER_SCORES[name].is_mean_over_images]
MAYBE_ABOVE_ONE = (
    "hausdorff_rows",
    "dice_mediaeval",
    "iou_mediaeval",
    *(name for name in NAMES if name.startswith("e_measure")),  # N pixels count as N - 1
)

SHAPES = st.tuples(st.integers(2, 6), st.integers(2, 6))
LEVELS = st.sampled_from([0.0, 1 / 255, 0.3, 0.5, 0.7, 1.0])


def pair_of(shape: tuple[int, int]) -> st.SearchStrategy:
    grey = arrays(np.uint8, shape, elements=st.sampled_from([0, 4, 127, 128, 254, 255]))
    return st.tuples(arrays(np.float32, shape, elements=LEVELS), st.one_of(grey, arrays(np.bool_, shape)))


PAIRS = st.lists(SHAPES.flatmap(pair_of), min_size=1, max_size=4)


def score(name: str, *pairs: tuple[np.ndarray, np.ndarray]) -> float:
    return PAPER_SCORES[name](pairs)


def rectangle(rows: slice, columns: slice, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


def as_map(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.float32)


A = rectangle(slice(20, 40), slice(20, 50))
B = rectangle(slice(22, 44), slice(25, 60))
EMPTY = np.zeros((60, 80), dtype=bool)
SQUARE = rectangle(slice(30, 70), slice(30, 70), (100, 100))
NOTHING = np.zeros((100, 100), dtype=bool)


# What the reference sheet records of the programs themselves


def test_the_endocv_toolbox_on_two_rectangles():
    expected = {
        "jaccard_endocv": 0.489130,
        "dice_endocv": 0.656934,
        "f2_endocv": 0.709780,
        "ppv_endocv": 0.584416,
        "recall_endocv": 0.75,
        "accuracy_endocv": 0.902083,
        "hausdorff_rows": 3.872983,
    }
    assert paper_scores([(as_map(B), A)], list(expected)) == pytest.approx(expected, abs=1e-6)


def test_the_endocv_hausdorff_of_a_blank_prediction_is_that_of_a_full_row():
    assert score("hausdorff_rows", (as_map(EMPTY), A)) == pytest.approx(np.sqrt(30), abs=1e-6)
    assert score("accuracy_endocv", (as_map(EMPTY), A)) == 0.875


def test_the_endocv_hausdorff_does_not_see_a_mask_that_moved_down():
    assert score("hausdorff_rows", (as_map(np.roll(A, 10, axis=0)), A)) == 0.0


def test_the_endocv_hausdorff_is_normalised_by_the_worst_image_of_the_run():
    pairs = [(as_map(B), A), (as_map(EMPTY), A), (as_map(A), A)]
    mean = (np.sqrt(15) + np.sqrt(30) + 0) / 3
    assert score("hausdorff_rows_normalised", *pairs) == pytest.approx(mean / np.sqrt(30))
    assert score("hausdorff_rows_normalised", (as_map(A), A)) == 0.0


ENDOCV_EMPTIES = {  # only prediction empty, only mask empty, both
    "jaccard_endocv": (0, 0, 1),
    "dice_endocv": (0, 0, 1),
    "ppv_endocv": (1, 0, 1),
    "recall_endocv": (0, 1, 1),
    "f2_endocv": (0, 0, 1),
    "accuracy_endocv": (0.875, 0.875, 1),
}


@pytest.mark.parametrize("name", ENDOCV_EMPTIES)
def test_empties_in_the_endocv_toolbox(name):
    cases = [(as_map(EMPTY), A), (as_map(A), EMPTY), (as_map(EMPTY), EMPTY)]
    assert [score(name, case) for case in cases] == pytest.approx(ENDOCV_EMPTIES[name], abs=1e-12)


def test_the_endocv_toolbox_takes_any_grey_for_polyp():
    assert score("dice_endocv", (A * 0.5 + 0.01, A)) < 0.25  # a grey map is polyp everywhere
    ringing = A * np.uint8(255)
    ringing[0, 0] = 3
    assert score("recall_endocv", (as_map(A), ringing)) < 1
    assert score("dice_endocv", (A + 0.001 * ~A, A)) == 1  # 0.001 is 0 in 8 bit


def test_the_endocv_toolbox_resizes_the_cut_prediction_by_area():
    small = cv2.resize(A.astype(np.uint8), (40, 30), interpolation=cv2.INTER_NEAREST).astype(bool)
    large = cv2.resize(A.astype(np.uint8), (120, 90), interpolation=cv2.INTER_NEAREST).astype(bool)
    assert score("dice_endocv", (as_map(small), A)) == 1
    assert score("dice_endocv", (as_map(large), A)) == pytest.approx(1, abs=0.05)


def test_a_perfect_mask_under_pranets_protocol():
    assert score("dice_pranet", (as_map(SQUARE), SQUARE)) == pytest.approx(0.997171, abs=1e-6)
    assert score("iou_pranet", (as_map(SQUARE), SQUARE)) == pytest.approx(0.996719, abs=1e-6)
    assert score("dice_pranet_max", (as_map(SQUARE), SQUARE)) == 1.0
    assert score("recall_pranet", (as_map(SQUARE), SQUARE)) == 1.0
    assert score("specificity_pranet", (as_map(SQUARE), SQUARE)) == 255 / 256
    assert score("mae_pranet", (as_map(SQUARE), SQUARE)) == 0.0


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "pranet" in name and not name.startswith(("mae", "s_meas", "e_meas"))]
)
def test_an_image_without_polyp_scores_nothing_under_pranets_protocol(name):
    assert score(name, (as_map(NOTHING), NOTHING)) == 0.0


STRUCTURE = {  # pysodmetrics 1.6.2, an independent program, on the maps of 8 bit that it is given: soft, hard
    "s_measure_pranet": (0.7709522765, 0.7174521092),
    "weighted_f_pranet": (0.577403385, 0.6515824061),
    "e_measure_pranet": (0.8019988027, 0.8932467647),
    "e_measure_pranet_max": (0.9229179234, 0.8957690968),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_structure_measures_equal_those_of_an_independent_program(name):
    truth, moved = rectangle(slice(20, 41), slice(20, 51)), rectangle(slice(22, 45), slice(25, 60))
    blurred = cv2.GaussianBlur(as_map(moved), (0, 0), 4)
    soft = np.round(blurred / blurred.max() * 255).astype(np.uint8) / 255
    found = [score(name, (prediction, truth)) for prediction in (soft, as_map(moved))]
    assert found == pytest.approx(STRUCTURE[name], abs=1e-9)


def test_structure_measures_of_images_that_hold_one_class():
    everywhere = np.ones((60, 80), bool)
    part = as_map(A)
    assert score("weighted_f_pranet", (part, EMPTY)) == 0
    assert score("s_measure_pranet", (part, EMPTY)) == pytest.approx(1 - A.mean())
    assert score("s_measure_pranet", (part, everywhere)) == pytest.approx(A.mean())
    assert score("e_measure_pranet_max", (as_map(EMPTY), EMPTY)) == pytest.approx(4800 / 4799)


def test_uacanet_cuts_the_stretched_map_at_its_middle():
    prediction = 0.2 + 0.3 * as_map(SQUARE)  # never above a half, yet the upper of two values
    assert score("dice_uacanet", (prediction, SQUARE)) == pytest.approx(0.997171, abs=1e-6)
    assert (
        score("dice_pranet_max", (prediction, SQUARE)) == score("dice_uacanet_max", (prediction, SQUARE)) == 1
    )


def test_resunetpps_mean_iou_of_a_network_that_does_not_saturate():
    prediction = np.where(SQUARE, 0.97, 0.03).astype(np.float32)
    assert score("iou_keras_truncated", (prediction, SQUARE)) == pytest.approx(0.42, abs=1e-6)
    assert score("iou_keras_truncated", (as_map(prediction > 0.5), SQUARE)) == 1.0
    assert score("iou_keras_truncated", (as_map(SQUARE), SQUARE * np.uint8(254))) == pytest.approx(0.42)
    assert score("iou_two_class", (prediction, SQUARE)) == 1.0


def test_keras_metrics_on_grey_masks_as_keras_itself_prints_them():
    rng = np.random.default_rng(3)
    masks = (rng.integers(0, 4, (3, 20, 20)) * 85).astype(np.uint8)
    maps = np.round(rng.random((3, 20, 20)), 1).astype(np.float32)
    pairs = list(zip(maps, masks, strict=True))
    # Keras 3.15.1: MeanIoU(num_classes=2), Recall(), Precision() of masks / 255.
    assert score("iou_keras_truncated", *pairs) == pytest.approx(0.389120, abs=1e-6)
    assert score("recall_keras", *pairs) == pytest.approx(0.444318, abs=1e-6)
    assert score("precision_keras", *pairs) == pytest.approx(0.724074, abs=1e-6)


@pytest.mark.parametrize(("predicted", "truth", "expected"), [(0, 0, 1.0), (1, 0, 0.0), (1, 1, 1.0)])
def test_keras_leaves_out_a_class_that_nobody_has(predicted, truth, expected):
    mask = np.full((10, 10), truth, bool)
    assert score("iou_keras_truncated", (np.full((10, 10), predicted, np.float32), mask)) == expected


def test_soft_scores_by_hand():
    prediction = np.array([[0.5, 0.25], [0.0, 1.0]], np.float32)
    mask = np.array([[255, 0], [51, 255]], np.uint8)  # 1, 0, 0.2, 1
    assert score("dice_soft", (prediction, mask)) == pytest.approx((2 * 1.5 + 1) / (2.2 + 1.75 + 1))
    assert score("iou_soft", (prediction, mask)) == pytest.approx((1.5 + 1) / (2.2 + 1.75 - 1.5 + 1))
    assert score("dice_smooth", (prediction, mask)) == pytest.approx((2 * 1 + 1) / (2.2 + 1 + 1))
    half = prediction / 2 + 0.25
    assert score("dice_soft_stretched", (half, mask)) == pytest.approx(score("dice_soft", (prediction, mask)))


def test_dice_by_image_and_by_pixel_differ_as_in_msrf_nets_table():
    small, large = rectangle(slice(0, 2), slice(0, 2)), rectangle(slice(10, 50), slice(10, 60))
    pairs = [(as_map(EMPTY), small), (as_map(large), large)]
    assert score("dice_msrf", *pairs) == score("dice_image", *pairs) == 0.5
    assert score("iou_msrf", *pairs) == score("iou_pixels", *pairs) == 2000 / 2004


def test_mediaeval_scores_by_hand():
    cut = 1 / (1 + np.exp(-0.3))
    right, wrong = np.where(SQUARE, cut + 1e-6, cut - 1e-6), np.full(SQUARE.shape, cut - 1e-6)
    pairs = [(right, SQUARE)] * 16 + [(wrong, SQUARE)]
    background = 2 * 8400 / (2 * 8400 + 1600)
    assert score("dice_mediaeval", *pairs) == pytest.approx(1 + (0 + background) / 2, abs=1e-6)
    assert score("iou_mediaeval", *pairs) == pytest.approx(1 + (0 + 8400 / 10000) / 2, abs=1e-6)


def test_mediaeval_scores_need_a_second_batch():
    with pytest.raises(ValueError, match="more than 16 images, found 16"):
        score("dice_mediaeval", *[(as_map(A), A)] * 16)


# Against independent programs


@settings(max_examples=40, deadline=None)
@given(SHAPES.flatmap(pair_of))
def test_pranets_protocol_equals_the_loop_over_thresholds(pair):
    probabilities, mask = pair
    truth = (mask if mask.dtype == bool else mask > 127).astype(bool)
    spread = np.ptp(probabilities) or 1
    grey = np.round((probabilities.astype(float) - probabilities.min()) / spread * 255)
    dice, iou = [], []
    for threshold in range(256):
        predicted = grey >= threshold
        tp = (predicted & truth).sum()
        dice.append(2 * tp / (predicted.sum() + truth.sum()) if tp else 0)
        iou.append(tp / (predicted | truth).sum() if tp else 0)
    assert score("dice_pranet", pair) == pytest.approx(np.mean(dice))
    assert score("iou_pranet", pair) == pytest.approx(np.mean(iou))
    assert score("dice_pranet_max", pair) == pytest.approx(np.max(dice))


@settings(max_examples=60, deadline=None)
@given(SHAPES.flatmap(pair_of))
def test_the_sklearn_scripts_equal_scikit_learn(pair):
    truth = (pair[1] if pair[1].dtype == bool else pair[1] > 127).astype(int).ravel()
    predicted = (pair[0] > 0.5).astype(int).ravel()
    for script, precision_empty, f2_empty in (("gmsrf", 0, None), ("colonsegnet", 1, 1)):
        expected = {
            "dice": sklearn_metrics.f1_score(truth, predicted, zero_division=0),
            "iou": sklearn_metrics.jaccard_score(truth, predicted, zero_division=0),
            "recall": sklearn_metrics.recall_score(truth, predicted, zero_division=0),
            "precision": sklearn_metrics.precision_score(truth, predicted, zero_division=precision_empty),
        }
        if f2_empty is not None:
            expected["f2"] = sklearn_metrics.fbeta_score(truth, predicted, beta=1, zero_division=f2_empty)
        found = paper_scores([pair], [f"{name}_{script}" for name in expected])
        assert list(found.values()) == pytest.approx(list(expected.values()))


def test_the_sklearn_scripts_resize_the_mask_to_the_map():
    grey = (np.random.default_rng(0).random((37, 53)) * 255).astype(np.uint8)
    grey = cv2.GaussianBlur(grey, (0, 0), 3)
    grey = cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX)
    by_pillow = np.asarray(Image.fromarray(grey).resize((24, 16), Image.Resampling.BICUBIC)) > 127
    by_opencv = cv2.resize(grey, (24, 16), interpolation=cv2.INTER_LINEAR) > 127
    assert (by_pillow != by_opencv).any()
    assert score("dice_gmsrf", (as_map(by_pillow), grey)) == 1.0
    assert score("dice_colonsegnet", (as_map(by_opencv), grey)) == 1.0


@settings(max_examples=60, deadline=None)
@given(SHAPES.flatmap(lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape))))
def test_row_distances_equal_those_of_a_list_of_points(pair):
    apart = cdist(pair[0].astype(float), pair[1].astype(float))
    expected = max(apart.min(axis=0).max(), apart.min(axis=1).max())
    assert score("hausdorff_rows", (as_map(pair[0]), pair[1])) == pytest.approx(expected, abs=1e-9)


# What holds for all


@pytest.mark.parametrize("name", NAMES)
def test_a_score_says_what_it_means(name):
    assert PAPER_SCORES[name].name == name
    assert len(PAPER_SCORES[name].meaning) > 40


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_scores_lie_between_0_and_1(pairs):
    names = [name for name in NAMES if name not in MAYBE_ABOVE_ONE]
    values = np.array(list(paper_scores(pairs, names).values()))
    assert np.all(np.isnan(values) | ((values >= 0) & (values <= 1 + 1e-12)))


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_scores_by_image_are_the_means_of_their_images_and_no_score_cares_for_order(pairs):
    both_ways = [paper_scores(order, BY_IMAGE) for order in (pairs, pairs[::-1])]
    assert both_ways[0] == pytest.approx(both_ways[1])
    for name in BY_IMAGE:
        one_by_one = [score(name, pair) for pair in pairs]
        assert PAPER_SCORES[name].of_images(pairs).tolist() == one_by_one
        assert both_ways[0][name] == pytest.approx(np.mean(one_by_one))


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_iou_by_image_lies_between_two_functions_of_dice(pairs):
    for program in ("image", "endocv", "gmsrf", "colonsegnet"):
        dice_name, iou_name = f"dice_{program}", f"{'jaccard' if program == 'endocv' else 'iou'}_{program}"
        found = paper_scores(pairs, [dice_name, iou_name])
        assert found[dice_name] / (2 - found[dice_name]) - 1e-9 <= found[iou_name] <= found[dice_name] + 1e-9


def test_a_generator_is_read_once_for_all_scores():
    pairs = [(as_map(B), A), (as_map(EMPTY), A)]
    names = [name for name in NAMES if "mediaeval" not in name]
    assert paper_scores(iter(pairs), names) == {name: PAPER_SCORES[name](pairs) for name in names}


def test_a_score_of_the_whole_set_has_no_values_by_image():
    with pytest.raises(ValueError, match="dice_pixels is defined for the whole set"):
        PAPER_SCORES["dice_pixels"].of_images([(as_map(A), A)])


@pytest.mark.parametrize(
    ("pairs", "problem"),
    [
        ([], "no images"),
        ([(as_map(A), A[:50])], r"\(60, 80\) cannot be scored on a mask of \(50, 80\)"),
        ([(as_map(A), A.astype(np.float32))], "bool or uint8"),
        ([(as_map(A)[None], A)], r"\(H, W\)"),
        ([(as_map(A) * 2, A)], r"\[0, 1\]"),
        ([(as_map(A) * np.nan, A)], r"\[0, 1\]"),
    ],
)
def test_what_cannot_be_scored_is_refused(pairs, problem):
    with pytest.raises(ValueError, match=problem):
        PAPER_SCORES["dice_image"](pairs)


def test_an_unknown_score_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no score is named mdice; known: .*dice_pranet"):
        paper_scores([(as_map(A), A)], ["mdice"])
