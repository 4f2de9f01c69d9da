"""What validation cases choose of a mask rule, and that the choice is scored as the masks it makes are."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.scoring.histograms import histogram_of_bins, quantize
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.scoring.metrics import METRICS, scores_of_masks
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.scoring.postprocess import PostProcess

RULES = (
    PostProcess(0.5),
    PostProcess(0.25, reference_area=0.1),
    PostProcess(0.5, white_level=0.75, reference_area=0.02),
    PostProcess(0.5, fill_holes=True, min_component_area=0.05),
)


def maps(count: int, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Noisy probability maps of blobs and the truth behind them; every third case has no polyp."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:40, 0:48]
    found, truths = [], []
    for index in range(count):
        radius = rng.uniform(3, 12)
        blob = np.hypot(y - rng.uniform(12, 28), x - rng.uniform(12, 36)) < radius
        truth = blob & (index % 3 > 0)
        strength = 0.55 if index % 3 == 0 else 0.8
        found.append(np.clip(strength * blob + rng.normal(0.1, 0.15, blob.shape), 0, 1).astype(np.float32))
        truths.append(truth)
    return found, truths


def stack(probabilities: list[np.ndarray], truths: list[np.ndarray], masks: PostProcess) -> np.ndarray:
    pairs = zip(probabilities, truths, strict=True)
    return np.stack([histogram_of_bins(masks.filter(quantize(p)), truth) for p, truth in pairs])


@pytest.mark.parametrize("masks", RULES)
def test_scores_from_histograms_are_those_of_the_masks(masks: PostProcess):
    probabilities, truths = maps(12)
    counted = scores_under(stack(probabilities, truths, masks), masks)
    for index, (probability, truth) in enumerate(zip(probabilities, truths, strict=True)):
        expected = scores_of_masks(masks.apply(probability), truth)
        assert {name: counted[name][index] for name in METRICS} == pytest.approx(expected)


def test_what_is_given_is_not_chosen():
    histograms = stack(*maps(12), PostProcess())
    choice = MaskChoice(threshold=0.25, reference_area=0.1, white_level=0.75)
    assert not choice.is_open
    assert choice.best(histograms) == PostProcess(0.25, white_level=0.75, reference_area=0.1)


def test_an_area_left_open_blanks_false_alarms_that_no_threshold_alone_can():
    histograms = stack(*maps(30), PostProcess())
    closed, opened = MaskChoice(), MaskChoice(reference_area=None, areas=(0.0, 0.3), white_level=0.75)
    dice = [scores_under(histograms, choice.best(histograms))["dice"].mean() for choice in (closed, opened)]
    assert opened.is_open and opened.best(histograms).reference_area <= 0.3
    assert dice[1] > dice[0] + 0.02


def test_the_choice_is_best_for_the_metric_that_was_asked_for():
    histograms = stack(*maps(30), PostProcess())
    choice = MaskChoice()
    recall = [
        scores_under(histograms, choice.best(histograms, metric))["recall"].mean()
        for metric in ("dice", "recall")
    ]
    assert recall[1] > recall[0]


def test_each_fold_gets_what_the_others_choose():
    histograms = stack(*maps(30), PostProcess())
    folds = np.arange(30) % 5
    choice = MaskChoice(reference_area=None, areas=(0.0, 0.3))
    chosen = choice.best_of_others(histograms, folds)
    assert sorted(chosen) == [0, 1, 2, 3, 4]
    assert chosen[2] == choice.best(histograms[folds != 2])
