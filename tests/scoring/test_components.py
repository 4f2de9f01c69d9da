"""Polyps counted as objects."""

from __future__ import annotations

import numpy as np

from orchestrator.scoring.components import PolypCounts, count_polyps


def discs(*places: tuple[int, int, int]) -> np.ndarray:
    """Discs of (row, column, radius) in a frame of 60 x 80."""
    rows, columns = np.mgrid[:60, :80]
    return np.any([(rows - r) ** 2 + (columns - c) ** 2 <= size**2 for r, c, size in places], axis=0)


NOTHING = np.zeros((60, 80), bool)
LEFT, RIGHT = (30, 20, 8), (30, 60, 8)


def f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    return count_polyps(predicted, truth).lesion_f1


def test_every_polyp_found_scores_one_and_none_at_all_too():
    assert f1(discs(LEFT, RIGHT), discs(LEFT, RIGHT)) == f1(NOTHING, NOTHING) == 1.0


def test_one_of_two_polyps_is_two_of_three_components():
    assert f1(discs(LEFT), discs(LEFT, RIGHT)) == f1(discs(LEFT, RIGHT), discs(LEFT)) == 2 / 3


def test_a_false_alarm_and_a_missed_polyp_score_nothing():
    assert f1(discs(LEFT), NOTHING) == f1(NOTHING, discs(LEFT)) == f1(discs(LEFT), discs(RIGHT)) == 0.0


def test_a_component_that_overlaps_by_less_than_half_is_no_hit():
    assert f1(discs((30, 24, 8)), discs(LEFT)) == 1.0  # IoU 0.53
    assert f1(discs((30, 26, 8)), discs(LEFT)) == 0.0  # IoU 0.36


def test_polyps_that_are_found_and_areas_that_are_none_are_counted_over_images():
    images = [(discs(LEFT), discs(LEFT, RIGHT)), (discs(LEFT, RIGHT), discs(RIGHT)), (discs(LEFT), NOTHING)]
    counts = [count_polyps(*image) for image in images]
    total = PolypCounts.total(counts, ["a", "b", "c"])
    assert (total.there, total.found, total.false_positives, total.images) == (3, 2, 2, 3)
    assert total.sensitivity == 2 / 3 and total.false_positives_per_image == 2 / 3
    assert (
        "2 of 3 found (sensitivity 66.7 %, 95 % " in total.sentence()
        and "2 areas marked that match none" in total.sentence()
    )
    assert count_polyps(NOTHING, NOTHING).sensitivity is None
    rows = [one.as_scores() for one in counts]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    assert PolypCounts.of_columns(columns, ["a", "b", "c"]) == total
    assert (
        PolypCounts.total(counts, ["a"] * 3).sentence().count("95 %") == 0
    )  # one group says nothing of others
    low, high = total.false_positives_interval
    assert 0 <= low < 2 / 3 < high and f"0.67 per image (95 % {low:.2f} to {high:.2f})." in total.sentence()
    said = total.as_dict()
    assert (said["false_positives_per_image_low"], said["false_positives_per_image_high"]) == (low, high)
    assert PolypCounts.total([], []).interval is PolypCounts.total([], []).false_positives_interval is None


def test_one_mask_over_two_polyps_finds_neither():
    joined = discs(LEFT, RIGHT)
    joined[30, 20:60] = True
    assert f1(joined, discs(LEFT, RIGHT)) == 0.0
