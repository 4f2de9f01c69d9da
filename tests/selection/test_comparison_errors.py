"""How often equal systems are told apart, and others are not: small simulations with known truths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from null_systems import systems

from orchestrator.search.significance import ComparedTrial, all_against
from orchestrator.selection.comparison import VALIDATION, compare, verdict

IMAGES = 150


@pytest.mark.parametrize("number", [2, 5])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_equal_systems_seldom_differ_significantly_whatever_training_does(number: int, noise: float):
    studies = 40 if number == 2 else 15
    false = sum(
        any(row.is_sure for row in compare(systems(seed, number, noise=noise, num_images=IMAGES)))
        for seed in range(studies)
    )
    assert false <= 0.05 * studies + 2 * (0.05 * 0.95 * studies) ** 0.5


def test_a_large_lead_is_seen_in_spite_of_training_noise():
    seen = [
        compare(systems(seed, 2, noise=0.01, lead=0.08, num_images=IMAGES))[0].is_sure for seed in range(20)
    ]
    assert sum(seen) >= 16


def test_training_noise_alone_is_not_called_better_where_images_alone_would_be():
    found = [compare(systems(seed, 2, noise=0.03, num_images=IMAGES))[0] for seed in range(20)]
    assert sum(row.p_images < 0.05 for row in found) >= 6 and sum(row.is_sure for row in found) <= 3


def test_intervals_of_more_rows_are_wider_and_know_how_folds_differ():
    five = systems(1, 5, noise=0.03, num_images=IMAGES)
    (alone,), together = compare(five[:2]), compare(five)
    assert [alone.confidence, together[0].confidence] == pytest.approx([0.95, 0.9875])
    assert together[0].interval[0] < alone.interval[0] < alone.interval[1] < together[0].interval[1]
    calm = compare([replace(one, fold_means=(0.5,) * 5) for one in five[:2]])
    assert calm[0].interval[1] - calm[0].interval[0] < alone.interval[1] - alone.interval[0]


def test_networks_without_common_folds_are_not_called_better_methods():
    one, other = systems(0, 2, noise=0.0, lead=0.1, num_images=IMAGES)
    held_out = [
        replace(system, scores={"hold-out test": system.scores[VALIDATION]}) for system in (one, other)
    ]
    (row,) = compare(held_out)
    said = verdict(row, "dice")
    assert row.is_sure and not row.is_of_methods and "these networks, not the methods" in said
    assert "better" not in said


def test_compare_and_best_say_the_same_of_two_systems():
    for seed in range(10):
        one, other = systems(seed, 2, noise=0.01, lead=0.03, num_images=IMAGES)
        (row,) = compare([one, other])
        ours, theirs = (
            ComparedTrial(number, np.array([*system.scores[VALIDATION].values()]), system.fold_means)
            for number, system in enumerate((one, other))
        )
        (versus,) = all_against(theirs, [ours], [*one.group_of], 0.25)
        assert row.p_value == pytest.approx(versus.p_value) and row.interval == pytest.approx(versus.interval)
