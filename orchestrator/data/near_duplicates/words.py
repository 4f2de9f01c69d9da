"""Make words.npy, the vocabulary of descriptors.py, by k-means on descriptors of synthetic images.

    python -m orchestrator.data.near_duplicates.words

No patient's image goes into it: it can be shipped, and the result for one dataset depends on no other.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from orchestrator.data.images import read_image
from orchestrator.data.near_duplicates.descriptors import WORDS, Floats, expand, nearest
from orchestrator.data.near_duplicates.landmarks import find_landmarks
from orchestrator.data.phantom import draw_dataset

NUM_WORDS = 32  # and as many mirror images
NUM_CASES, HEIGHT, NUM_CENTERS = 120, 288, 5
NUM_ROUNDS = 12


def drawn_sample() -> Floats:
    """(landmarks, NUM_WAVES) descriptors of drawn frames; processors differ in a few landmarks."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn"
        draw_dataset(drawn, num_cases=NUM_CASES, size=HEIGHT, num_centers=NUM_CENTERS)
        images = sorted((drawn / "images").iterdir())
        found = [expand(find_landmarks(read_image(image)).descriptors) for image in images]
    return np.concatenate(found)


def cluster_centers(sample: Floats) -> Floats:
    """(NUM_WORDS, NUM_WAVES) means of the clusters of a sample."""
    words = sample[np.random.default_rng(0).permutation(len(sample))[:NUM_WORDS]].copy()
    for _ in range(NUM_ROUNDS):
        word = nearest(sample, words)
        counts = np.bincount(word, minlength=NUM_WORDS)
        sums = np.zeros_like(words)
        np.add.at(sums, word, sample)
        words = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], words).astype(np.float32)
    return words


if __name__ == "__main__":
    np.save(Path(__file__).with_name(WORDS), cluster_centers(drawn_sample()).astype(np.float16))
