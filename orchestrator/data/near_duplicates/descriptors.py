"""Descriptors of landmarks: short, compared by a dot product, mirrored by changing signs alone.

A SIFT descriptor is a histogram of directions in 4 x 4 cells, in coordinates that rotate with the image. Its mirror
image has the rows of cells in reverse order and the directions negated. In a cosine basis over rows, columns and
directions every wave is either even or odd under this, so that mirroring changes only the signs of the odd
coefficients. Slow waves carry what distinguishes places, fast ones mostly noise: NUM_WAVES of 128 are kept.

The global descriptor of a frame is the residual of its descriptors from the visual words of a vocabulary (VLAD,
Jegou et al. 2010). Words come in pairs of mirror images, so that the vector of a mirrored frame follows from that of
the frame. They are shipped (words.npy), made from synthetic images by
`python -m orchestrator.data.near_duplicates.words`, and depend on no dataset.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

NUM_WAVES = 64
STEPS = 200  # int8 steps per unit: coefficients are at most 0.6
FINEST = 127 / STEPS
WORDS = "words.npy"

Floats = NDArray[np.float32]


@cache
def _waves() -> tuple[Floats, Floats]:
    """(NUM_WAVES, 128) orthonormal rows, slowest first, no constant; (NUM_WAVES,) parity: 1 even, -1 odd."""
    cells, directions = np.arange(4), np.arange(8)
    across = [np.cos(np.pi * (2 * cells + 1) * k / 8) for k in range(4)]
    around = [(k, np.cos(2 * np.pi * k * directions / 8), 1) for k in range(5)]
    around += [(k, np.sin(2 * np.pi * k * directions / 8), -1) for k in range(1, 4)]
    waves = [
        (
            down**2 + right**2 + turn**2,
            np.einsum("a,b,c->abc", across[down], across[right], circle).ravel(),
            odd * (-1) ** down,
        )
        for down in range(4)
        for right in range(4)
        for turn, circle, odd in around
    ]
    slowest = sorted(waves, key=lambda wave: wave[0])[1 : NUM_WAVES + 1]
    basis = np.stack([wave / np.linalg.norm(wave) for _, wave, _ in slowest])
    return basis.astype(np.float32), np.array([parity for *_, parity in slowest], np.float32)


def compress(sift: NDArray[np.uint8]) -> NDArray[np.int8]:
    """(N, 128) from OpenCV -> (N, NUM_WAVES): root-SIFT (Arandjelovic and Zisserman 2012) in the wave basis."""
    bins = sift.astype(np.float32)
    roots = np.sqrt(bins / np.maximum(bins.sum(axis=1, keepdims=True), 1))
    waves = _unit(roots @ _waves()[0].T)
    result: NDArray[np.int8] = np.rint(waves.clip(-FINEST, FINEST) * STEPS).astype(np.int8)
    return result


def expand(short: NDArray[np.int8]) -> Floats:
    """Compressed descriptors as float32 unit vectors."""
    return _unit(short.astype(np.float32))


def mirrored(descriptors: Floats) -> Floats:
    """Descriptors of the same landmarks in the mirrored frame."""
    return descriptors * _waves()[1]


def aggregate(descriptors: Floats, words: Floats | None = None) -> Floats:
    """(W x NUM_WAVES,) of length at most 1: residuals of a frame's descriptors from their words, summed by word."""
    words = vocabulary() if words is None else words
    if not len(descriptors):
        return np.zeros(words.size, np.float32)
    word = np.eye(len(words), dtype=np.float32)[nearest(descriptors, words)]
    rest = word.T @ descriptors - word.sum(axis=0)[:, None] * words
    rest /= np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6)
    result: Floats = (rest / np.sqrt(len(words))).ravel()
    return result


def mirrored_aggregates(vectors: Floats) -> Floats:
    """(N, W x NUM_WAVES), those of the mirrored frames: the second half of the words mirrors the first."""
    by_word = vectors.reshape(len(vectors), 2, -1, NUM_WAVES)[:, ::-1]
    return (by_word * _waves()[1]).reshape(vectors.shape)


@cache
def vocabulary() -> Floats:
    """(W, NUM_WAVES); word W / 2 + i is the mirror image of word i."""
    with (files("orchestrator.data.near_duplicates") / WORDS).open("rb") as file:
        half = np.load(file).astype(np.float32)
    return np.concatenate([half, mirrored(half)])


def nearest(descriptors: Floats, words: Floats) -> NDArray[np.intp]:
    """(N,) index of the word nearest to each descriptor."""
    result: NDArray[np.intp] = (descriptors @ words.T - 0.5 * (words**2).sum(axis=1)).argmax(axis=1)
    return result


def _unit(vectors: Floats) -> Floats:
    result: Floats = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)).astype(
        np.float32
    )
    return result
