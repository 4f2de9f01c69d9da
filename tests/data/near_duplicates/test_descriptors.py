"""Descriptors of a mirrored frame follow from those of the frame; the vocabulary follows from no dataset."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest

from orchestrator.data.near_duplicates import descriptors
from orchestrator.data.near_duplicates.align import find_map, frame_features, mirror
from orchestrator.data.near_duplicates.descriptors import (
    aggregate,
    compress,
    expand,
    mirrored,
    mirrored_aggregates,
    nearest,
)
from orchestrator.data.near_duplicates.landmarks import find_landmarks
from orchestrator.data.near_duplicates.words import cluster_centers, drawn_sample
from orchestrator.data.phantom import _frames


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    return next(_frames(1, 240, 1, 0))[3]


def test_short_descriptors_keep_who_is_whose_neighbour():
    sift = np.random.default_rng(0).integers(0, 120, (50, 128)).astype(np.uint8)
    noisy = np.clip(sift + np.random.default_rng(1).integers(-9, 10, sift.shape), 0, 255).astype(np.uint8)
    nearest = (expand(compress(sift)) @ expand(compress(noisy)).T).argmax(axis=1)
    assert (nearest == np.arange(50)).all()


def test_landmarks_that_are_mirrored_fit_the_mirrored_frame(drawn: np.ndarray):
    frame, swapped = (
        frame_features(find_landmarks(image)) for image in (drawn, np.ascontiguousarray(drawn[:, ::-1]))
    )
    affine, num_places = find_map(mirror(frame), swapped)
    assert num_places > 100 and np.abs(affine - [[1, 0], [0, 1], [0, 0]]).max() < 2
    plain = find_map(frame, swapped)
    assert plain is None or plain[1] < 10


def test_a_frame_as_a_whole_is_mirrored_as_its_landmarks_are(drawn: np.ndarray):
    found = expand(find_landmarks(drawn).descriptors)
    assert np.allclose(aggregate(mirrored(found)), mirrored_aggregates(aggregate(found)[None])[0], atol=1e-5)
    assert np.allclose(mirrored(mirrored(found)), found)


def test_a_frame_without_landmarks_looks_like_no_other():
    assert not aggregate(expand(find_landmarks(np.zeros((90, 120, 3), np.uint8)).descriptors)).any()


@pytest.mark.slow
def test_the_shipped_vocabulary_serves_drawn_frames_as_one_made_of_them_here_does():
    """Centers differ between processors, which find other landmarks; the mean distance to the nearest one does not."""
    with (files("orchestrator.data.near_duplicates") / descriptors.WORDS).open("rb") as file:
        shipped = np.load(file).astype(np.float32)
    sample = drawn_sample()
    assert distance(sample, shipped) == pytest.approx(distance(sample, cluster_centers(sample)), rel=0.02)
    assert distance(sample, shipped) < 0.95 * distance(sample, sample[: len(shipped)])


def distance(sample: np.ndarray, words: np.ndarray) -> float:
    """From each descriptor to its word, on average."""
    return float(np.linalg.norm(sample - words[nearest(sample, words)], axis=1).mean())
