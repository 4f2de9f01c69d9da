from __future__ import annotations

import numpy as np
import pytest

from orchestrator.scoring.statistics import cluster_interval

RNG = np.random.default_rng(7)
VALUES = RNG.uniform(0.5, 1.0, 60)
OWN_GROUPS = [str(i) for i in range(60)]


def test_the_interval_holds_the_mean():
    low, high = cluster_interval(VALUES, OWN_GROUPS)
    assert low < VALUES.mean() < high


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
