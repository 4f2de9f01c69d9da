from __future__ import annotations

import numpy as np
import pytest
from formula import SPACE, histograms

from orchestrator.data.splits.split_plan import Fold, SplitPlan
from orchestrator.scoring.metrics import scores_at
from orchestrator.scoring.threshold import best_threshold
from orchestrator.search.records.fit_records import ScoreRecord
from orchestrator.search.records.trial_score import fold_specs, refit_spec, score_trial

PARAMS = {"network": "unet", "learning_rate": 1e-3, "batch_size": 2, "epochs": 3, "image_size": 32}
SETTINGS = SPACE.configuration(PARAMS)
SAMPLED = SPACE.configuration(PARAMS | {"threshold": 0.5})


def wants(bin_: int, size: int = 1000) -> np.ndarray:
    """A map (2, 256) of a polyp that ends at one bin, with as many false pixels just below: that bin is best."""
    stack = np.zeros((2, 256), np.uint32)
    stack[1, bin_:] = size // (256 - bin_)
    stack[0, :bin_] = 4 * size // bin_
    return stack


def record(fold: int, **maps: np.ndarray) -> ScoreRecord:
    """A fold that validates these cases."""
    return ScoreRecord(f"fit-{fold}", str(fold), tuple(maps), np.stack(list(maps.values())))


A, B, C, D = wants(200), wants(60), wants(180), wants(90)


def dice(maps: np.ndarray, threshold: float) -> float:
    return float(scores_at(maps[None], threshold)["dice"][0])


def test_one_fold_that_chose_its_threshold_is_never_called_cross_fitted():
    score = score_trial([record(0, a=A, b=B)], SETTINGS)
    assert not score.is_cross_fitted and score.cross_fitted is None and score.fold_dice_std is None
    assert score.dice_of_case.mean() == pytest.approx(score.metrics["dice"])


def test_one_fold_whose_threshold_the_search_sampled_owes_nothing_to_it():
    score = score_trial([record(0, a=A, b=B)], SAMPLED)
    assert score.is_cross_fitted and score.cross_fitted == score.metrics
    assert score.metrics["dice"] == pytest.approx((dice(A, 0.5) + dice(B, 0.5)) / 2)


def test_of_two_folds_each_is_scored_at_the_threshold_of_the_other():
    score = score_trial([record(0, a=A), record(1, b=B)], SETTINGS)
    for_a, for_b = (best_threshold(maps[None], 0.05, 0.95)[0] for maps in (B, A))
    assert score.values_of_case["dice"].tolist() == [dice(A, for_a), dice(B, for_b)]
    assert score.cross_fitted["dice"] < score.metrics["dice"]
    # What tests over folds compare is what tests over images compare, not the folds at the threshold of all.
    assert [fold["dice"] for fold in score.fold_means_of_case] == [dice(A, for_a), dice(B, for_b)]
    assert score.fold_dice != tuple(fold["dice"] for fold in score.fold_means_of_case)


def test_the_mean_is_over_images_whatever_the_sizes_of_folds():
    found = histograms(0.9, 1)[0], histograms(0.1, 1)[0]
    score = score_trial([record(0, a=found[0], b=found[0], c=found[0]), record(1, d=found[1])], SETTINGS)
    one, other = dice(found[0], 0.5), dice(found[1], 0.5)
    assert score.metrics["dice"] == pytest.approx((3 * one + other) / 4)
    assert score.fold_dice == pytest.approx((one, other))


def test_of_several_repeats_an_image_counts_once_with_its_mean():
    first = [record(0, a=A, b=B), record(1, c=C, d=D)]
    second = [record(2, a=B, c=A), record(3, d=C, b=D)]
    score = score_trial(first + second, SETTINGS)
    assert score.case_ids == ("a", "b", "c", "d")
    expected = {case_id: [] for case_id in score.case_ids}
    for folds in (first, second):
        for fold, other in zip(folds, folds[::-1], strict=True):
            threshold, _ = best_threshold(other.histograms, 0.05, 0.95)
            for case_id, maps in zip(fold.case_ids, fold.histograms, strict=True):
                expected[case_id].append(dice(maps, threshold))
    assert score.dice_of_case == pytest.approx([np.mean(expected[case_id]) for case_id in score.case_ids])
    assert len(score.fold_dice) == 4


def test_a_repeat_that_says_the_same_again_changes_nothing():
    folds = [record(0, a=A, b=B), record(1, c=C, d=D)]
    again = [record(2, a=A, b=B), record(3, c=C, d=D)]
    once, twice = score_trial(folds, SETTINGS), score_trial(folds + again, SETTINGS)
    assert twice.metrics == pytest.approx(once.metrics)
    assert twice.case_ids == once.case_ids
    for name, values in once.values_of_case.items():
        assert twice.values_of_case[name] == pytest.approx(values)


def test_every_fold_has_a_seed_of_its_own_that_all_trials_share():
    folds = tuple(Fold(i, f"fold {i}", (f"x/{i}",), (f"x/{1 - i}",), (), {}) for i in range(2))
    plan = SplitPlan("2-fold", 0, {}, {}, True, None, folds, test=(), dropped={})
    other = SPACE.configuration(PARAMS | {"learning_rate": 1e-2})
    seeds = [
        [spec.recipe.seed for spec in fold_specs(configuration, plan)] for configuration in (SETTINGS, other)
    ]
    assert seeds[0] == seeds[1] and len({*seeds[0]}) == 2
    assert seeds[0][0] == SETTINGS.recipe.seed  # as `fit --fold 0` says it
    assert refit_spec(SETTINGS, plan, 3).recipe.seed == SETTINGS.recipe.seed
    last = SPACE.configuration(PARAMS | {"seed": 2**31 - 1})
    assert all(0 <= spec.recipe.seed < 2**31 for spec in fold_specs(last, plan))
