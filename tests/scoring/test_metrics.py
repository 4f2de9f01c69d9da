from __future__ import annotations

import numpy as np
import pytest

from orchestrator.scoring.metrics import METRICS, score, scores, scores_at
from orchestrator.scoring.threshold import histogram


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
    with pytest.raises(ValueError, match=r"no metric is named 'mdice'; known: dice, iou"):
        score("mdice", 1, 1, 1, 1)
