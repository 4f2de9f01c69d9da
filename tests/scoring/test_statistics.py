from __future__ import annotations

import itertools

import numpy as np
import pytest
from clustered import LONG_ONES_LOWER, POPULATIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from independent_intervals import fold_interval, image_interval
from scipy import stats

from orchestrator.scoring.statistics import (
    Share,
    cluster_interval,
    clustered_error,
    clustered_wilcoxon,
    corrected_error,
    corrected_interval,
    corrected_t_test,
    few_groups,
    holm,
    paired_difference,
    rate_interval,
    share_interval,
)

RNG = np.random.default_rng(7)
VALUES = RNG.uniform(0.5, 1.0, 60)
OWN_GROUPS = [str(i) for i in range(60)]


def test_the_interval_holds_the_mean():
    low, high = cluster_interval(VALUES, OWN_GROUPS)
    assert low < VALUES.mean() < high


def test_the_interval_of_a_rate_is_not_negative_and_not_empty_where_nothing_was_counted():
    counts = [0, 0, 0, 1, 0, 0, 2, 0]
    low, high = rate_interval(counts, OWN_GROUPS[:8])
    assert 0 <= low < np.mean(counts) < high <= 2
    # Poisson: no event in 20 units is as likely as 2.5 % where this many are expected.
    low, high = rate_interval([0] * 40, [str(i // 2) for i in range(40)])
    assert low == 0 and stats.poisson.pmf(0, 20 * high) == pytest.approx(0.025)
    assert rate_interval([1, 2], ["a", "a"]) == (0, np.inf)
    assert rate_interval([], []) == (0, np.inf)


def test_the_same_seed_gives_the_same_interval():
    assert cluster_interval(VALUES, OWN_GROUPS, seed=3) == cluster_interval(VALUES, OWN_GROUPS, seed=3)
    assert cluster_interval(VALUES, OWN_GROUPS, seed=3) != cluster_interval(VALUES, OWN_GROUPS, seed=4)


def test_frames_of_few_videos_make_the_interval_wider_than_as_many_patients():
    effects = np.repeat(RNG.normal(0.8, 0.1, 6), 10)
    few_low, few_high = cluster_interval(effects, [f"video {i // 10}" for i in range(60)])
    many_low, many_high = cluster_interval(effects, OWN_GROUPS)
    assert few_high - few_low > 2 * (many_high - many_low)


def test_more_confidence_makes_the_interval_wider():
    low, high = cluster_interval(VALUES, OWN_GROUPS, confidence=0.8)
    wide_low, wide_high = cluster_interval(VALUES, OWN_GROUPS, confidence=0.99)
    assert wide_low < low < high < wide_high


def test_equal_values_leave_no_doubt():
    assert cluster_interval(np.ones(4), ["a", "a", "b", "c"]) == (1.0, 1.0)


def test_one_group_says_nothing_about_others():
    assert cluster_interval(VALUES, ["only"] * 60) == (-np.inf, np.inf)


def test_groups_weigh_by_their_cases():
    low, high = cluster_interval(np.array([1.0] * 9 + [0.0]), ["big"] * 9 + ["small"])
    assert (low, high) == (0.0, 1.0)  # drawn twice, either group stands alone


def test_nine_of_ten_intervals_hold_the_truth_on_clustered_data():
    groups = [f"video {i // 5}" for i in range(60)]
    hits = 0
    for repeat in range(200):
        rng = np.random.default_rng(repeat)
        values = np.repeat(rng.normal(0.8, 0.1, 12), 5) + rng.normal(0, 0.05, 60)
        low, high = cluster_interval(values, groups, num_resamples=200)
        hits += low <= 0.8 <= high
    assert 0.9 <= hits / 200 <= 0.99


def test_values_without_groups_are_refused():
    with pytest.raises(ValueError, match="3 values, 2 groups"):
        cluster_interval(np.ones(3), ["a", "b"])


def test_one_long_video_among_short_ones_widens_the_interval():
    values = RNG.uniform(0.5, 1.0, 60)
    even = [f"video {i // 6}" for i in range(60)]
    uneven = ["long"] * 42 + [f"video {i // 2}" for i in range(18)]
    (low, high), (uneven_low, uneven_high) = cluster_interval(values, even), cluster_interval(values, uneven)
    assert uneven_high - uneven_low > high - low


def test_a_group_that_holds_nearly_everything_leaves_the_whole_range_open():
    assert cluster_interval(np.array([1.0] * 9999 + [0.0]), ["big"] * 9999 + ["small"]) == (0.0, 1.0)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="1 of 2 values are not finite"):
        cluster_interval(np.array([0.5, np.nan]), ["a", "b"])


@pytest.mark.parametrize(("population", "num_groups"), list(zip(POPULATIONS, (10, 30), strict=True)))
def test_intervals_by_group_hold_the_truth_as_often_as_they_say_and_those_by_image_do_not(
    population, num_groups
):
    studies = [population.draw(np.random.default_rng([seed, num_groups]), num_groups) for seed in range(400)]
    by_group = [cluster_interval(v, list(g), num_resamples=500) for v, g in studies]
    by_image = [image_interval(v, num_resamples=100) for v, _ in studies]
    covered, bold = (
        np.mean([low <= population.mean <= high for low, high in ends]) for ends in (by_group, by_image)
    )
    assert 0.93 <= covered <= 0.975
    assert bold < 0.8


@pytest.mark.parametrize("num_groups", [5, 12])
def test_intervals_hold_the_truth_of_few_groups_where_long_ones_score_lower(num_groups):
    studies = [
        LONG_ONES_LOWER.draw(np.random.default_rng([seed, num_groups]), num_groups) for seed in range(300)
    ]
    ends = [cluster_interval(v, list(g), num_resamples=500) for v, g in studies]
    assert np.mean([low <= LONG_ONES_LOWER.mean <= high for low, high in ends]) >= 0.92


def test_an_interval_of_a_difference_turns_with_its_sign_and_stays_within_what_was_seen():
    values, groups = POPULATIONS[0].draw(np.random.default_rng(1), 4)
    low, high = cluster_interval(values, list(groups))
    assert cluster_interval(-values, list(groups)) == pytest.approx((-high, -low))
    assert values.min() <= low < high <= values.max()


def test_the_interval_over_folds_is_that_of_their_test():
    differences = [0.02, 0.01, 0.03, 0.02, 0.015]
    p_value = corrected_t_test(differences, 0.25).p_value
    low, _ = corrected_interval(differences, 0.25, confidence=1 - p_value)
    assert low == pytest.approx(0, abs=1e-12)


def test_an_interval_over_a_handful_of_groups_is_said_to_say_little():
    assert "2 groups" in (few_groups(2) or "") and few_groups(5) is None


def test_the_means_of_the_simulated_populations_are_what_they_claim():
    for population in (*POPULATIONS, LONG_ONES_LOWER):
        values, _ = population.draw(np.random.default_rng(0), 20_000)
        assert values.mean() == pytest.approx(population.mean, abs=0.005)


def test_an_interval_by_image_is_one_whose_groups_are_single_images():
    assert image_interval(VALUES) == cluster_interval(VALUES, OWN_GROUPS)


def test_the_fold_interval_is_students():
    means = [0.80, 0.82, 0.79, 0.85, 0.81]
    expected = stats.t.interval(0.95, 4, loc=np.mean(means), scale=stats.sem(means))
    assert fold_interval(means) == pytest.approx(expected)
    assert fold_interval([0.8]) == (-np.inf, np.inf)


def test_a_paired_difference_is_surer_than_two_intervals_apart():
    hard = RNG.uniform(0.2, 0.9, 60)
    found = paired_difference(hard + 0.02 + RNG.normal(0, 0.01, 60), hard, [f"p{i // 3}" for i in range(60)])
    assert found.difference == pytest.approx(0.02, abs=0.005)
    assert 0.01 < found.interval[0] < found.difference < found.interval[1] < 0.03
    assert (found.num_cases, found.num_groups) == (60, 20)


def test_a_difference_changes_its_sign_with_the_order():
    groups = [f"p{i // 3}" for i in range(60)]
    other = VALUES[::-1]
    forward, back = paired_difference(VALUES, other, groups), paired_difference(other, VALUES, groups)
    assert forward.difference == -back.difference
    assert forward.interval == pytest.approx((-back.interval[1], -back.interval[0]))


def test_values_of_other_images_are_refused():
    with pytest.raises(ValueError, match="found 2 and 3 values"):
        paired_difference([0.1, 0.2], [0.1, 0.2, 0.3], ["a", "b"])


DIFFERENCES = st.integers(2, 9).flatmap(lambda n: arrays(np.int8, n, elements=st.integers(-4, 4)))


@settings(max_examples=40, deadline=None)
@given(DIFFERENCES)
def test_without_groups_it_is_scipys_exact_wilcoxon_ties_and_zeros_included(steps):
    found = clustered_wilcoxon(steps / 10)
    differing = steps[steps != 0]
    if len(differing) < 2:
        assert found.p_value == 1.0
    else:
        every_flip = stats.PermutationMethod(n_resamples=10_000)
        assert found.p_value == pytest.approx(stats.wilcoxon(differing, method=every_flip).pvalue)


def test_many_images_without_groups_give_scipys_normal_approximation():
    differences = np.random.default_rng(1).normal(0.01, 0.05, 80).round(2)
    kept = differences[differences != 0]
    expected = stats.wilcoxon(kept, correction=False, method="asymptotic").pvalue
    assert clustered_wilcoxon(differences).p_value == pytest.approx(expected)


def test_images_of_a_group_flip_together():
    differences, groups = np.array([1.0, 2.0, -3.0, 4.0, 5.0]), np.array([0, 0, 1, 2, 2])
    totals = [
        sum(np.sign(d) * flips[g] * abs(d) for d, g in zip(differences, groups, strict=True))
        for flips in itertools.product([1, -1], repeat=3)
    ]
    found = clustered_wilcoxon(differences, [str(g) for g in groups])
    assert found.p_value == np.mean(np.abs(totals) >= abs(totals[0]))
    assert (found.statistic, found.num_units) == (9.0, 3)


@pytest.mark.parametrize("num_groups", [12, 40])
def test_alike_systems_differ_significantly_no_more_often_than_the_level_says(num_groups):
    population = POPULATIONS[1]
    tests, bold = [], []
    for seed in range(300):
        values, groups = population.draw(np.random.default_rng(seed), num_groups)
        tests.append(clustered_wilcoxon(values - population.mean, list(groups)).p_value)
        bold.append(clustered_wilcoxon(values - population.mean).p_value)
    assert 0.02 <= np.mean(np.array(tests) < 0.05) <= 0.08
    assert np.mean(np.array(bold) < 0.05) > 0.3


def test_no_difference_at_all_proves_nothing():
    assert clustered_wilcoxon(np.zeros(5), list("aabbc")).p_value == 1.0
    evened_out = np.tile([0.1, -0.1], 30), [str(image // 2) for image in range(60)]
    assert clustered_wilcoxon(*evened_out).p_value == 1.0


def test_a_group_is_needed_for_every_difference():
    with pytest.raises(ValueError, match="a group for each of 3 values, found 2"):
        clustered_wilcoxon([0.1, 0.2, 0.3], ["a", "b"])


def test_the_corrected_t_test_by_hand():
    found = corrected_t_test([0.02, 0.01, 0.03, 0.02, 0.02], 1 / 4)
    assert found.statistic == pytest.approx(0.02 / np.sqrt((1 / 5 + 1 / 4) * 5e-5))
    assert found.p_value == pytest.approx(0.013517, abs=1e-6)  # closed form for 4 degrees of freedom
    assert found.num_units == 5


def test_the_correction_makes_the_plain_t_test_less_sure():
    differences = [0.02, 0.01, 0.04, -0.01, 0.02]
    plain = stats.ttest_1samp(differences, 0).pvalue
    assert corrected_t_test(differences, 1e-12).p_value == pytest.approx(plain)
    assert corrected_t_test(differences, 1 / 4).p_value > plain


@pytest.mark.parametrize(("constant", "p_value"), [(0.0, 1.0), (0.1, 0.0), (-0.1, 0.0)])
def test_folds_that_all_agree_decide(constant, p_value):
    assert corrected_t_test([constant] * 5, 1 / 4).p_value == p_value


@pytest.mark.parametrize(("differences", "share"), [([0.1], 0.25), ([0.1, 0.2], 0.0), ([], 0.25)])
def test_a_t_test_without_folds_or_share_is_refused(differences, share):
    with pytest.raises(ValueError, match="expected"):
        corrected_t_test(differences, share)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, st.integers(0, 8), elements=st.floats(0, 1)), st.randoms(use_true_random=False))
def test_holm_keeps_the_order_lies_between_p_and_bonferroni_and_follows_its_input(p_values, random):
    adjusted = holm(p_values)
    assert np.all(adjusted >= p_values)
    assert np.all(adjusted <= np.minimum(p_values * len(p_values), 1))
    assert np.all(np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0)
    order = list(range(len(p_values)))
    random.shuffle(order)
    assert holm(p_values[order]).tolist() == adjusted[order].tolist()


def test_what_is_no_probability_is_not_corrected():
    with pytest.raises(ValueError, match="p-values"):
        holm([0.5, 1.5])


def test_the_error_of_a_mean_is_the_usual_one_where_every_image_stands_alone():
    values = np.random.default_rng(0).normal(0.7, 0.1, 50)
    usual = values.std(ddof=1) / np.sqrt(50)
    assert clustered_error(values, [str(image) for image in range(50)]) == pytest.approx(usual)


def test_images_told_twice_in_a_group_make_the_mean_no_surer():
    values = np.random.default_rng(0).normal(0.7, 0.1, 50)
    groups = [str(image) for image in range(50)]
    once, twice = clustered_error(values, groups), clustered_error(np.tile(values, 2), groups * 2)
    assert twice == pytest.approx(once)
    assert clustered_error(values, ["one video"] * 50) == np.inf


def test_the_error_over_five_folds_is_half_as_large_again_as_without_the_correction():
    differences = np.array([0.01, 0.03, 0.02, 0.05, 0.00])
    plain = differences.std(ddof=1) / np.sqrt(5)
    assert corrected_error(differences, 1 / 4) == pytest.approx(1.5 * plain)


def test_a_share_has_the_interval_of_a_mean_over_what_is_counted():
    hits, totals, groups = [1, 0, 2, 1, 0], [1, 1, 3, 2, 0], ["a", "b", "c", "d", "e"]
    each = np.array([1, 0, 1, 1, 0, 1, 0], dtype=float)
    assert share_interval(hits, totals, groups) == cluster_interval(each, list("abcccdd"))


def test_where_all_or_none_are_hits_the_interval_is_exact_over_groups():
    groups = [f"video {place // 2}" for place in range(40)]
    low, high = share_interval([1] * 40, [1] * 40, groups)
    exact = stats.binomtest(20, 20).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((exact.low, exact.high))
    assert share_interval([0] * 40, [1] * 40, groups) == pytest.approx((1 - high, 1 - low))
    assert share_interval([0, 0], [0, 0], ["a", "b"]) == (0, 1)
    assert Share.of([], []) == Share(0, 0, None) and Share.of([True, False], ["a", "b"]).num == 1


@pytest.mark.parametrize("missed", [[0], [0, 1, 2], [0, 3]])
def test_where_few_groups_have_a_miss_the_interval_is_still_informative(missed):
    groups = [f"video {place // 3}" for place in range(168)]
    hits = np.ones(168, int)
    hits[missed] = 0
    low, high = share_interval(hits, np.ones(168, int), groups)
    all_hits = stats.binomtest(56, 56).proportion_ci(0.95, "exact").low
    assert 0.85 < low < all_hits < hits.mean() < high < 1
    mirrored = share_interval(1 - hits, np.ones(168, int), groups)
    assert mirrored == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("share", "alike"), [(0.98, 0.5), (0.95, 0.95), (0.9, 0.5)])
def test_the_interval_of_a_share_near_one_holds_it_as_often_as_it_says(share, alike):
    rng, sizes, within = np.random.default_rng(3), np.arange(30) % 5 + 1, (1 - alike) / alike
    groups = list(np.repeat(np.arange(30), sizes).astype(str))
    held = []
    for _ in range(200):
        rates = rng.beta(within * share, within * (1 - share), len(sizes))
        hits = np.array(rng.random(len(groups)) < np.repeat(rates, sizes), int)
        low, high = share_interval(hits, np.ones(len(groups), int), groups)
        held.append(low <= share <= high)
    assert np.mean(held) > 0.92


@pytest.mark.parametrize(("hits", "groups"), [([2], ["a"]), ([1], ["a", "b"])])
def test_a_share_of_more_than_all_is_refused(hits, groups):
    with pytest.raises(ValueError, match="totals at least as large, and groups of one length"):
        share_interval(hits, [1], groups)
