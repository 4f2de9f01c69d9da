from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestrator.scoring.histograms import NUM_BINS, counts, histogram, snap
from orchestrator.scoring.metrics import METRICS, scores_at
from orchestrator.scoring.threshold import best_threshold, curve


def case(inside: list[float], outside: list[float]) -> np.ndarray:
    """Histogram (2, 256) of an image with these probabilities inside and outside its mask."""
    mask = np.arange(len(inside) + len(outside)) < len(inside)
    return histogram(np.array([inside + outside]), mask[None])


def counted(predicted: np.ndarray, mask: np.ndarray) -> tuple[int, int, int, int]:
    pairs = ((predicted, mask), (predicted, ~mask), (~predicted, mask), (~predicted, ~mask))
    return tuple(int((a & b).sum()) for a, b in pairs)


SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
# Bin edges and their neighbours are where an off-by-one would hide.
EDGES = [x for b in range(0, 256, 15) for x in (b / 256, np.nextafter(b / 256, 0), np.nextafter(b / 256, 1))]
PROBABILITIES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, *EDGES]))
MAPS = SHAPES.flatmap(
    lambda shape: st.tuples(arrays(np.float64, shape, elements=PROBABILITIES), arrays(np.bool_, shape))
)


@settings(max_examples=60, deadline=None)
@given(MAPS)
def test_counts_equal_those_of_thresholded_pixels_at_every_threshold(map_and_mask):
    probabilities, mask = map_and_mask
    confusion = counts(histogram(probabilities, mask)[None])
    for b in range(NUM_BINS):
        found = tuple(int(pixels[0, b]) for pixels in confusion)
        assert found == counted(probabilities >= b / NUM_BINS, mask)


@settings(max_examples=20, deadline=None)
@given(MAPS, st.integers(0, NUM_BINS - 1))
def test_one_threshold_alone_scores_like_its_column_of_the_curve(map_and_mask, b):
    histograms = histogram(*map_and_mask)[None]
    for metric in METRICS:
        assert scores_at(histograms, b / NUM_BINS)[metric] == curve(histograms, metric)[:, b]


def test_a_histogram_counts_outside_first_and_inside_second():
    found = case(inside=[1.0, 0.5, 0.5], outside=[0.0])
    assert found.shape == (2, 256) and found.dtype == np.uint32
    assert found[0, 0] == 1 and found[1, 128] == 2 and found[1, 255] == 1 and found.sum() == 4


def test_single_precision_falls_into_the_same_bins():
    probabilities = np.linspace(0, 1, 1025, dtype=np.float32)[None]
    mask = np.ones_like(probabilities, dtype=bool)
    assert np.array_equal(histogram(probabilities, mask), histogram(probabilities.astype(np.float64), mask))


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        histogram(np.array([[0.5, value]]), np.zeros((1, 2), dtype=bool))


def test_a_map_of_another_size_than_its_mask_is_refused():
    with pytest.raises(ValueError, match="cannot be scored"):
        histogram(np.zeros((2, 3)), np.zeros((3, 2), dtype=bool))


def test_the_best_threshold_is_the_middle_of_the_best_plateau():
    histograms = case(inside=[201 / 256, 0.9], outside=[100 / 256, 0.1])[None]
    assert best_threshold(histograms, 0.05, 0.95) == (151 / 256, 1.0)  # thresholds 101 to 201 part them


def test_of_two_plateaus_the_wider_one_is_taken():
    inside, outside = [60 / 256, 200 / 256], [40 / 256, 80 / 256, 80 / 256]
    # Dice is 2/3 at thresholds 41 to 60, lower up to 80, and 2/3 again from 81 to 200.
    assert best_threshold(case(inside, outside)[None], 0.0, 1.0) == (140 / 256, 2 / 3)


def test_a_plateau_ends_where_the_sweep_does():
    histograms = case(inside=[1.0], outside=[0.0])[None]
    assert best_threshold(histograms, 0.25, 0.5) == (96 / 256, 1.0)


def test_the_best_threshold_stays_inside_the_sweep():
    histograms = case(inside=[0.2, 0.2], outside=[0.1])[None]
    threshold, dice = best_threshold(histograms, 0.3, 0.9)
    assert 0.3 <= threshold <= 0.9 and dice == 0.0


def test_the_best_threshold_follows_the_metric():
    histograms = case(inside=[0.9, 0.3], outside=[0.5])[None]
    assert best_threshold(histograms, 0.05, 0.95, "precision")[0] > 0.5
    assert best_threshold(histograms, 0.05, 0.95, "recall")[0] <= 0.3


def test_a_sweep_without_a_threshold_in_it_is_refused():
    with pytest.raises(ValueError, match="no multiple"):
        best_threshold(case([1.0], [0.0])[None], 0.501, 0.502)


def test_a_threshold_is_not_chosen_on_no_cases():
    with pytest.raises(ValueError, match="no cases"):
        best_threshold(np.zeros((0, 2, 256), dtype=np.uint32), 0.1, 0.9)


@pytest.mark.parametrize(
    ("given", "snapped"), [(0.5, 0.5), (0.3, 77 / 256), (0.0, 1 / 256), (1.0, 255 / 256)]
)
def test_snap_takes_the_nearest_threshold_that_parts_pixels(given, snapped):
    assert snap(given) == snapped


def test_a_threshold_between_bins_is_refused():
    with pytest.raises(ValueError, match="snap"):
        scores_at(case([1.0], [0.0])[None], 0.3)
