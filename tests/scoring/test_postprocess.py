from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestrator.scoring.histograms import histogram, histogram_of_bins, quantize
from orchestrator.scoring.metrics import METRICS, scores
from orchestrator.scoring.pending_cases import (
    ThresholdAndArea,
    best_rule,
    cross_fitted_rules,
    scores_under,
    sweep,
)
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.scoring.threshold import best_threshold

MAPS = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(
        arrays(np.float32, shape, elements=st.sampled_from([0, 0.25, 0.3, 0.5, 0.9, 1])),
        arrays(np.bool_, shape),
    )
)
AREAS = (0.0, 0.1, 1 / 3, 0.5, 1.0)


def dice_of(mask: np.ndarray, truth: np.ndarray, metric: str = "dice") -> float:
    pairs = ((mask, truth), (mask, ~truth), (~mask, truth), (~mask, ~truth))
    return float(scores(*(int((a & b).sum()) for a, b in pairs))[metric])


def blob(size: int, value: float, background: float = 0.0) -> np.ndarray:
    """A map (10, 10) whose first `size` pixels have a value."""
    probabilities = np.full(100, background, np.float32)
    probabilities[:size] = value
    return probabilities.reshape(10, 10)


def test_the_default_is_a_plain_threshold():
    probabilities = np.array([[0.49, 0.5, 1.0]])
    assert PostProcess().apply(probabilities).tolist() == [[False, True, True]]


def test_a_case_with_no_more_white_than_the_reference_becomes_background():
    rule = PostProcess(threshold=0.5, reference_area=0.05)
    assert not rule.apply(blob(5, 0.9)).any()
    assert rule.apply(blob(6, 0.9)).sum() == 6


def test_white_has_a_level_of_its_own():
    probabilities = np.maximum(blob(8, 0.6), blob(2, 0.95))
    assert PostProcess(0.5, white_level=0.75, reference_area=0.01).apply(probabilities).sum() == 8
    assert PostProcess(0.5, white_level=0.75, reference_area=0.02).apply(probabilities).sum() == 0


def test_white_is_counted_after_the_filters():
    probabilities = np.zeros((10, 10))
    probabilities[0, 0] = probabilities[5:8, 5:8] = 0.9
    probabilities[6, 6] = 0.0
    rule = PostProcess(fill_holes=True, min_component_area=0.02, reference_area=0.08)
    assert rule.apply(probabilities).sum() == 9


def test_areas_mean_the_same_at_every_size():
    rule = PostProcess(reference_area=0.05, min_component_area=0.04)
    small = np.zeros((10, 10))
    small[2:5, 3:6] = 0.8
    assert np.array_equal(
        rule.apply(small.repeat(3, 0).repeat(3, 1)), rule.apply(small).repeat(3, 0).repeat(3, 1)
    )


def test_all_problems_are_reported_at_once():
    with pytest.raises(ValueError) as refusal:
        PostProcess(threshold=0.3, white_level=0.0, reference_area=2, min_component_area=-1)
    named = ("threshold", "white_level", "reference_area", "min_component_area")
    assert all(f"{name} must be" in str(refusal.value) for name in named)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(MAPS, min_size=1, max_size=3),
    st.sampled_from([0.25, 77 / 256, 0.5, 230 / 256]),
    st.sampled_from([None, 0.25, 0.5]),
    st.booleans(),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from(METRICS),
)
def test_the_sweep_scores_what_applying_each_rule_would(cases, threshold, white_level, fill, least, metric):
    post = PostProcess(threshold, white_level=white_level, fill_holes=fill, min_component_area=least)
    histograms = np.stack([histogram_of_bins(post.filter(quantize(p)), mask) for p, mask in cases])
    found = sweep(histograms, AREAS, metric=metric, white_level=white_level)
    assert found.shape == (256, len(AREAS))
    for column, area in enumerate(AREAS):
        rule = PostProcess(threshold, white_level, area, fill, least)
        expected = [dice_of(rule.apply(p), mask, metric) for p, mask in cases]
        assert found[int(threshold * 256), column] == pytest.approx(np.mean(expected), abs=1e-12)
        assert scores_under(histograms, rule)[metric].tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(MAPS, min_size=2, max_size=4))
def test_without_a_reference_area_the_rule_is_the_threshold_alone(cases):
    histograms = np.stack([histogram(*case) for case in cases])
    rule, mean = best_rule(histograms, [0.0], 0.05, 0.95)
    assert (rule.threshold, mean) == best_threshold(histograms, 0.05, 0.95)
    folds = np.arange(len(cases)) % 2
    rules = cross_fitted_rules(histograms, folds, [0.0], 0.05, 0.95)
    expected = {fold: best_threshold(histograms[folds != fold], 0.05, 0.95)[0] for fold in (0, 1)}
    assert {fold: rule.threshold for fold, rule in rules.items()} == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(MAPS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_neither_the_order_of_cases_nor_of_areas_matters(cases, random):
    histograms = [histogram(*case) for case in cases]
    rule, mean = best_rule(np.stack(histograms), AREAS, 0.05, 0.95)
    random.shuffle(histograms)
    shuffled, same_mean = best_rule(np.stack(histograms), AREAS[::-1], 0.05, 0.95)
    assert shuffled == rule and same_mean == pytest.approx(mean)


NEGATIVE = histogram(blob(3, 0.9), np.zeros((10, 10), bool))  # a false alarm of 3 %
POSITIVE = histogram(blob(20, 0.9), blob(20, 1).astype(bool))


def test_the_best_rule_blanks_a_false_alarm_and_keeps_the_polyp():
    rule, mean = best_rule(np.stack([NEGATIVE, POSITIVE]), [0.0, 0.01, 0.05, 0.3], 0.05, 0.95)
    assert (rule.reference_area, mean) == (0.05, 1.0)


def test_of_equally_good_areas_the_smallest_is_taken_and_the_middle_of_its_thresholds():
    rule, mean = best_rule(np.stack([NEGATIVE, POSITIVE]), [0.1, 0.04, 0.05], 0.05, 0.95)
    assert (
        rule == ThresholdAndArea((13 + 230) // 2 / 256, 0.04) and mean == 1.0
    )  # thresholds 13 to 230 part them


def test_of_equally_good_areas_the_one_with_more_such_thresholds_is_taken():
    # White shrinks from 3 % to 1 % above 128/256: there the smaller area is enough, the larger one is everywhere.
    shrinking = histogram(np.maximum(blob(3, 0.5), blob(1, 0.9)), np.zeros((10, 10), bool))
    rule, _ = best_rule(np.stack([shrinking, POSITIVE]), [0.02, 0.04], 0.05, 0.95)
    assert rule.reference_area == 0.04


def test_each_fold_gets_the_rule_of_the_others():
    rules = cross_fitted_rules(np.stack([NEGATIVE, POSITIVE]), np.array([2, 5]), [0.0, 0.05], 0.05, 0.95)
    assert (rules[2].reference_area, rules[5].reference_area) == (
        0.0,
        0.05,
    )  # polyps alone show no false alarms


@pytest.mark.parametrize(
    ("histograms", "areas", "problem"),
    [
        (np.zeros((0, 2, 256), np.uint32), [0.0], "no cases"),
        (NEGATIVE[None], [], "reference areas"),
        (NEGATIVE[None], [1.5], "reference areas"),
        (NEGATIVE[None], [np.nan], "reference areas"),
    ],
)
def test_a_sweep_over_nothing_is_refused(histograms, areas, problem):
    with pytest.raises(ValueError, match=problem):
        sweep(histograms, areas)


def test_cross_fitting_one_fold_of_rules_is_refused():
    with pytest.raises(ValueError, match="two folds"):
        cross_fitted_rules(NEGATIVE[None], np.array([0]), [0.0], 0.1, 0.9)
