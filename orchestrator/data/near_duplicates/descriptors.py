"""Descriptors of landmarks: short, comparable by a dot product, and of a mirror image by changing signs alone.

A SIFT descriptor is a histogram of directions in 4 x 4 cells, in a frame that turns with the picture. Its mirror image
has the rows of cells in reverse order and the directions negated. In a basis of waves over rows, columns and directions
every wave is either even or odd under that, so the mirror image keeps all coefficients but for the signs of the odd
ones. Slow waves carry what tells places apart, fast ones mostly noise: NUM_WAVES of 128 are kept.

A frame as a whole is described by how its descriptors differ from the words of a vocabulary (VLAD, Jegou et al. 2010).
The words come in pairs of mirror images, so that the vector of a mirrored frame follows from that of the frame, too.
They are shipped (words.npy) and made of drawn gut by `python -m orchestrator.data.near_duplicates.words`: they follow
from no dataset.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

NUM_WAVES = 64
STEPS = 200  # of int8 in one: coefficients are at most 0.6
FINEST = 127 / STEPS
WORDS = "words.npy"

Floats = NDArray[np.float32]


@cache
def _waves() -> tuple[Floats, Floats]:
    """(NUM_WAVES, 128) orthonormal, slowest first, without the constant; (NUM_WAVES,) 1 where even, -1 where odd."""
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
    """(N, 128) as OpenCV gives them -> (N, NUM_WAVES): root-SIFT (Arandjelovic and Zisserman 2012) in waves."""
    bins = sift.astype(np.float32)
    roots = np.sqrt(bins / np.maximum(bins.sum(axis=1, keepdims=True), 1))
    waves = _unit(roots @ _waves()[0].T)
    return np.rint(waves.clip(-FINEST, FINEST) * STEPS).astype(np.int8)


def expand(short: NDArray[np.int8]) -> Floats:
    """The same as float32 of length 1."""
    return _unit(short.astype(np.float32))


def mirrored(descriptors: Floats) -> Floats:
    """What the same landmarks have in the mirrored frame."""
    return descriptors * _waves()[1]


def aggregate(descriptors: Floats, words: Floats | None = None) -> Floats:
    """(W x NUM_WAVES,) of length at most 1: what the landmarks of a frame are off the words, summed by word."""
    words = vocabulary() if words is None else words
    if not len(descriptors):
        return np.zeros(words.size, np.float32)
    word = np.eye(len(words), dtype=np.float32)[nearest(descriptors, words)]
    rest = word.T @ descriptors - word.sum(axis=0)[:, None] * words
    rest /= np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6)
    return (rest / np.sqrt(len(words))).ravel()


def mirrored_aggregates(vectors: Floats) -> Floats:
    """(N, W x NUM_WAVES), of the mirrored frames: the second half of the words mirrors the first."""
    by_word = vectors.reshape(len(vectors), 2, -1, NUM_WAVES)[:, ::-1]
    return (by_word * _waves()[1]).reshape(vectors.shape)


@cache
def vocabulary() -> Floats:
    """(W, NUM_WAVES); word W / 2 + i is the mirror image of word i."""
    with (files("orchestrator.data.near_duplicates") / WORDS).open("rb") as file:
        half = np.load(file).astype(np.float32)
    return np.concatenate([half, mirrored(half)])


def nearest(descriptors: Floats, words: Floats) -> NDArray[np.intp]:
    """Index of the word that is nearest to each descriptor."""
    return (descriptors @ words.T - 0.5 * (words**2).sum(axis=1)).argmax(axis=1)


def _unit(vectors: Floats) -> Floats:
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)).astype(np.float32)
