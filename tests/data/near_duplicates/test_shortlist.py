"""Frames that look alike, mirrored or not, are on each other's list; lists are as long for many frames as for few."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.data.near_duplicates import shortlist as shortlist_module
from orchestrator.data.near_duplicates.descriptors import mirrored_aggregates, vocabulary
from orchestrator.data.near_duplicates.shortlist import GlobalDescriptors, shortlist


def global_descriptors(num: int, seed: int = 0) -> GlobalDescriptors:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num, vocabulary().size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return GlobalDescriptors(vectors.astype(np.float16), np.full((num, 10), 128, np.float32))


def test_the_most_alike_comes_first_mirrored_or_not_in_either_dataset():
    one, other = global_descriptors(5), global_descriptors(30, seed=1)
    other.vectors[7], other.vectors[9] = (
        one.vectors[2],
        mirrored_aggregates(one.vectors[3:4].astype(np.float32))[0],
    )
    ranks = {(i, j, turned): rank for i, j, turned, rank in shortlist(one, other, size=3).tolist()}
    assert ranks[2, 7, 0] == ranks[3, 9, 1] == 0
    assert {(j, i, turned) for i, j, turned, _ in shortlist(other, one, size=3).tolist()} == set(ranks)


@pytest.mark.parametrize("num", [1, 2, 30])
def test_pairs_grow_linearly_and_no_frame_is_paired_with_itself(num: int, monkeypatch: pytest.MonkeyPatch):
    frames = global_descriptors(num)
    pairs = shortlist(frames, None, size=6)
    assert len(pairs) <= 6 * num and (pairs[:, 0] < pairs[:, 1]).all()
    monkeypatch.setattr(shortlist_module, "ROWS", 7)
    monkeypatch.setattr(shortlist_module, "COLUMNS", 11)
    assert (shortlist(frames, None, size=6)[:, :3] == pairs[:, :3]).all()


def test_what_differs_in_color_is_less_alike():
    frames = global_descriptors(3)
    frames.vectors[1] = frames.vectors[2] = frames.vectors[0]
    frames.colors[1] += 30
    assert frames.likeness([0], [1, 2])[0].tolist() == pytest.approx([0.7, 1.0], abs=2e-3)
