"""Which trial is exported: what does not differ significantly, what is cheaper, what tuning has gained."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.search.choices import BestRule
from orchestrator.selection.ranking import RankedTrial, Selection, select
from orchestrator.selection.reevaluation import Reevaluated

NUM_IMAGES, NUM_FOLDS = 100, 5
EASE = np.random.default_rng(99).uniform(0.3, 0.8, NUM_IMAGES)  # of each image, for all trials alike
OWN = [str(image) for image in range(NUM_IMAGES)]


def candidate(
    number: int, lead: float, *, noise: float = 0.02, seconds: float = 60, num_parameters: int = 1000
) -> RankedTrial:
    """A trial whose score of an image is its ease, its own lead and some noise."""
    values = EASE + lead + np.random.default_rng(number).normal(0, noise, NUM_IMAGES)
    means = tuple(map(float, values.reshape(NUM_FOLDS, -1).mean(axis=1)))
    return RankedTrial(number, values, means, seconds, num_parameters)


def chosen(*ranked: RankedTrial, rule: BestRule = "best", groups: list[str] = OWN) -> Selection:
    return select(ranked, groups, 1 / 4, rule=rule)


def test_what_differs_by_noise_is_not_significantly_different_and_what_is_far_below_is():
    selection = chosen(candidate(1, 0.1), candidate(2, 0.1), candidate(3, 0.0), candidate(0, -0.1))
    assert selection.winner == selection.chosen == 1
    assert selection.alike_trials == (2,) and selection.num_compared == 3


def test_images_of_few_groups_make_it_less_sure():
    pair = candidate(1, 0.01), candidate(2, 0.0)
    assert chosen(*pair).alike_trials == ()
    assert chosen(*pair, groups=[str(image // 50) for image in range(NUM_IMAGES)]).alike_trials == (2,)


def test_a_lead_that_one_fold_alone_has_made_is_not_sure():
    values = EASE.copy()
    values[:20] += 0.19
    means = tuple(map(float, values.reshape(NUM_FOLDS, -1).mean(axis=1)))
    lucky = replace(candidate(1, 0), values=values, fold_means=means)
    (one,) = chosen(lucky, candidate(2, 0.0, noise=0)).alike
    assert one.p_images < 0.001 and one.p_folds is not None and one.p_folds > 0.05
    assert select([lucky, candidate(2, 0.0, noise=0)], OWN, None).alike == ()  # one fold: images alone speak


def test_a_test_that_points_the_other_way_than_the_mean_does_not_agree():
    """One finds what the other misses and is a little worse on all other images."""
    values = EASE - 0.01
    values[::20] += 0.9
    finder = replace(candidate(1, 0), values=values, fold_means=(0.9,) * NUM_FOLDS)
    (one,) = select([finder, replace(candidate(2, 0), values=EASE)], OWN, None).alike
    assert one.difference > 0.03 and one.p_images == 1


def test_more_trials_make_each_comparison_less_sure():
    leader, near = candidate(1, 0.012), candidate(2, 0.0)
    crowd = [candidate(number, 0.0) for number in range(3, 40)]
    assert chosen(leader, near).alike_trials == ()
    assert 2 in chosen(leader, near, *crowd).alike_trials


def test_the_gain_over_the_default_has_an_interval_and_a_p_value():
    gain = chosen(candidate(1, 0.1), candidate(0, 0.0)).baseline
    assert gain is not None and gain.is_sure and (gain.trial, gain.other) == (1, 0)
    assert gain.interval[0] < gain.difference < gain.interval[1]
    assert gain.difference == pytest.approx(0.1, abs=0.01)


def test_a_gain_over_the_default_is_corrected_for_all_that_were_tried():
    default = candidate(0, 0.0)
    tried = [candidate(number, 0.004) for number in range(1, 30)]
    alone, many = chosen(tried[0], default).baseline, chosen(*tried, default).baseline
    assert alone is not None and many is not None and many.p_value > alone.p_value
    assert many.difference == alone.difference


def test_trials_that_were_stopped_were_tried_too():
    pair = candidate(1, 0.004), candidate(0, 0.0)
    alone, many = (select(pair, OWN, 1 / 4, num_stopped=stopped).baseline for stopped in (0, 20))
    assert alone is not None and many is not None
    assert many.p_value == pytest.approx(min(1, 21 * alone.p_value))


def test_a_default_that_wins_or_is_missing_is_said_in_words():
    assert "is that of the baseline" in chosen(candidate(0, 0.1), candidate(1, 0)).sentences()[2]
    assert chosen(candidate(0, 0.1)).tags()["beats_baseline"] == "is the baseline"
    assert "gain over it is unknown" in chosen(candidate(1, 0.1), candidate(2, 0)).sentences()[2]
    assert "nothing to compare" in chosen(candidate(1, 0.1)).sentences()[1]
    assert (
        "not significantly different from the baseline"
        in chosen(candidate(1, 0), candidate(0, 0)).sentences()[2]
    )


def test_trials_that_another_objective_ranks_lower_may_be_better_by_dice_and_that_is_said():
    selection = chosen(candidate(1, 0.0), candidate(0, 0.1), candidate(2, 0.1), candidate(3, 0.0))
    assert selection.alike_trials == (3,) and [one.other for one in selection.better] == [0, 2]
    _, others, default = selection.sentences()
    assert others == (
        "Of 3 others, these are not significantly different from trial 1 by dice: 3; these are better than trial 1 "
        "by dice: 0, 2."
    )
    assert "is worse than the baseline" in default and selection.tags()["beats_baseline"] == "no"


def test_values_of_the_winner_at_an_end_of_their_range_are_said_last():
    selection = replace(
        chosen(candidate(1, 0.8), candidate(0, 0.5)), range_ends=("clip_norm 2 at the upper end of 0 to 2",)
    )
    wider = "a wider range may hold a better configuration"
    assert selection.sentences()[-1] == f"Of trial 1, clip_norm 2 at the upper end of 0 to 2: {wider}."


def test_one_standard_error_takes_the_cheapest_of_those_near_the_best():
    near = candidate(2, 0.0999, seconds=20)
    selection = chosen(candidate(1, 0.1), near, candidate(0, 0, seconds=1), rule="one-se")
    assert (selection.winner, selection.chosen) == (1, 2)
    assert "cheapest of 2 within one standard error" in selection.reason
    assert "0.3 min of training" in selection.reason and "instead of 1.0 min" in selection.reason


def test_the_standard_error_is_the_larger_one_of_images_and_folds():
    by_fold = np.repeat([0.05, -0.05, 0.05, -0.05, 0.0], NUM_IMAGES // NUM_FOLDS)
    first, second = candidate(1, 0.1, noise=0), candidate(2, 0.1, noise=0)
    values = second.values - by_fold
    second = replace(second, values=values, fold_means=tuple(values.reshape(NUM_FOLDS, -1).mean(axis=1)))
    (versus,) = chosen(first, second).alike
    assert versus.standard_error == pytest.approx(
        np.std([0.05, -0.05, 0.05, -0.05, 0], ddof=1) * (1 / 5 + 1 / 4) ** 0.5
    )


def test_one_standard_error_takes_no_finalist_that_the_second_scoring_exposed_or_lost():
    trials = [candidate(1, 0.1), *(candidate(number, 0.1, seconds=20) for number in (2, 3, 4))]
    again = [Reevaluated(1, 0.7, 0.7, 0.7), Reevaluated(2, 0.7, 0.5, 0.6)]
    found = select(
        trials, OWN, 1 / 4, rule="one-se", reevaluated=again, failed_reevaluations={3: "no memory"}
    )
    assert found.chosen == 4 and "cheapest of 2 within" in found.reason


def test_a_score_over_both_that_is_below_either_says_why():
    pair, second = (candidate(1, 0.1), candidate(2, 0.1)), Reevaluated(2, 0.6, 0.6, 0.6)
    said = [
        select(
            pair, OWN, 1 / 4, reevaluated=[Reevaluated(1, 0.7, 0.8, both), second]
        ).reevaluation_sentences()[0]
        for both in (0.75, 0.69)
    ]
    assert ["may be below either" in sentence for sentence in said] == [False, True]


def test_what_is_said_of_the_winner_is_no_tag_of_another_trial():
    pair = candidate(1, 0.1), candidate(0, 0, seconds=1)
    assert chosen(*pair).tags()["beats_baseline"] == "yes"
    other = replace(chosen(*pair), chosen=0)
    assert other.tags().keys() == {"chosen_for", "finalists"}


def test_of_equal_training_the_fewer_parameters_win():
    small = candidate(3, 0.1, seconds=62, num_parameters=10)
    large = candidate(2, 0.1, seconds=60)
    assert chosen(candidate(1, 0.1), large, small, rule="one-se").chosen == 3


def test_one_standard_error_keeps_the_best_where_nothing_near_is_cheaper():
    selection = chosen(candidate(1, 0.1), candidate(0, 0, seconds=1), rule="one-se")
    assert selection.chosen == 1 and "none is cheaper" in selection.reason


def test_what_one_group_says_is_unknown_and_still_plain_values():
    selection = chosen(candidate(1, 0.1), candidate(0, 0.0), rule="one-se", groups=["video"] * NUM_IMAGES)
    assert selection.chosen == 1 and selection.alike_trials == (0,)
    assert (
        json.loads(json.dumps(selection.as_dict(), allow_nan=False))["against_baseline"]["interval"] is None
    )
    assert selection.metrics().keys() == {
        "num_not_significantly_different",
        "gain_over_baseline",
        "gain_over_baseline_p",
    }
