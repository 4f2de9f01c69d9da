from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sklearn_metrics

from orchestrator.scoring.histograms import histogram
from orchestrator.scoring.metrics import METRICS, REGISTRY, metric_name, score, scores, scores_at


def rectangle(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((60, 80), dtype=bool)
    mask[rows, columns] = True
    return mask


def scores_of(prediction: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    at_half = scores_at(histogram(prediction.astype(float), mask)[None], 0.5)
    return {name: float(values[0]) for name, values in at_half.items()}


TRUTH = rectangle(slice(20, 40), slice(20, 50))
OTHER = rectangle(slice(22, 44), slice(25, 60))
EMPTY = np.zeros((60, 80), dtype=bool)


def test_two_rectangles_score_what_the_challenge_toolbox_prints():
    expected = {"iou": 0.489130, "dice": 0.656934, "f2": 0.709780, "precision": 0.584416, "recall": 0.75}
    found = scores_of(OTHER, TRUTH)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert found["accuracy"] == pytest.approx(0.902083, abs=1e-6)


def test_a_perfect_prediction_scores_one_everywhere():
    assert set(scores_of(TRUTH, TRUTH).values()) == {1.0}


def test_nothing_there_and_nothing_predicted_scores_one_everywhere():
    assert set(scores_of(EMPTY, EMPTY).values()) == {1.0}


def test_a_blank_prediction_of_a_polyp_scores_zero_but_for_accuracy():
    found = scores_of(EMPTY, TRUTH)
    assert found.pop("accuracy") == 0.875
    assert set(found.values()) == {0.0}


def test_a_false_alarm_scores_zero_but_for_accuracy():
    found = scores_of(TRUTH, EMPTY)
    assert found.pop("accuracy") == 0.875
    assert set(found.values()) == {0.0}


def test_precision_and_recall_tell_false_pixels_from_missed_ones():
    found = scores(tp=[3, 3], fp=[1, 0], fn=[0, 1], tn=[4, 4])
    assert found["precision"].tolist() == [0.75, 1.0]
    assert found["recall"].tolist() == [1.0, 0.75]
    assert found["f2"].tolist() == [15 / 16, 15 / 19]


def test_scores_names_every_metric():
    assert tuple(scores(1, 1, 1, 1)) == METRICS == ("dice", "iou", "precision", "recall", "f2", "accuracy")


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no metric is named 'mdice'; did you mean dice\? known: dice, iou"):
        score("mdice", 1, 1, 1, 1)


MASK_PAIRS = st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape))
)


@settings(max_examples=150, deadline=None)
@given(MASK_PAIRS)
def test_scores_lie_between_0_and_1_and_iou_between_two_functions_of_dice(pair):
    found = scores_of(*pair)
    assert all(0 <= value <= 1 for value in found.values())
    assert found["dice"] / (2 - found["dice"]) - 1e-12 <= found["iou"] <= found["dice"]


@settings(max_examples=150, deadline=None)
@given(MASK_PAIRS)
def test_dice_and_iou_are_symmetric_and_precision_is_recall_the_other_way_round(pair):
    found, swapped = scores_of(*pair), scores_of(*reversed(pair))
    assert (found["dice"], found["iou"]) == (swapped["dice"], swapped["iou"])
    assert found["precision"] == swapped["recall"]


@settings(max_examples=60, deadline=None)
@given(MASK_PAIRS, st.randoms(use_true_random=False))
def test_scores_do_not_care_where_a_pixel_lies(pair, random):
    order = list(range(pair[0].size))
    random.shuffle(order)
    assert scores_of(*pair) == scores_of(*(mask.ravel()[order][None] for mask in pair))


@settings(max_examples=60, deadline=None)
@given(MASK_PAIRS)
def test_scores_equal_those_of_scikit_learn(pair):
    predicted, truth = (mask.ravel() for mask in pair)
    both_empty = float(not predicted.any() and not truth.any())
    found = scores_of(*pair)
    expected = {
        "dice": sklearn_metrics.f1_score(truth, predicted, zero_division=both_empty),
        "iou": sklearn_metrics.jaccard_score(truth, predicted, zero_division=both_empty),
        "precision": sklearn_metrics.precision_score(truth, predicted, zero_division=both_empty),
        "recall": sklearn_metrics.recall_score(truth, predicted, zero_division=both_empty),
        "f2": sklearn_metrics.fbeta_score(truth, predicted, beta=2, zero_division=both_empty),
        "accuracy": sklearn_metrics.accuracy_score(truth, predicted),
    }
    assert found == pytest.approx(expected)


def counts_of(predicted: np.ndarray, truth: np.ndarray) -> tuple[int, int, int, int]:
    pairs = ((predicted, truth), (predicted, ~truth), (~predicted, truth), (~predicted, ~truth))
    return tuple(int((a & b).sum()) for a, b in pairs)


def test_a_metric_of_masks_is_named_with_the_command_that_has_it():
    assert metric_name("HD95") == "hausdorff95" and metric_name("dice", masks=False) == "dice"
    with pytest.raises(
        ValueError, match=r"keeps only histograms .*orchestrator evaluate BUNDLE .* --metric hd95"
    ):
        metric_name("hd95", masks=False)
    with pytest.raises(ValueError, match=r"no metric is named 'hd96'; known: dice, .* lesion_f1"):
        metric_name("hd96")


def test_a_value_is_printed_in_the_unit_of_its_metric():
    assert (
        REGISTRY["dice"].text(0.8137) == "81.37" and REGISTRY["hausdorff95"].text(12.345, digits=1) == "12.3"
    )
