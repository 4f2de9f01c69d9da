"""The attention U-Net of the MediaEval 2020 challenge (IamRabin/MediaevalChallenge2020): two classes, by batch.

The network's raw output is cut at 0.3, which is a probability of 0.574. Polyp and background are averaged over each
batch of 16 images, in the order given; the batches are summed and divided by one batch too few, so a score can exceed
1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from orchestrator.scoring.papers.score import Map, Mask, Program, Values, by_opencv, counted, is_polyp

BATCH = 16
_CUT = 1 / (1 + np.exp(-0.3))
_TINY = 1e-6
_CHALLENGE = Program(size=256, resize_mask=by_opencv)


def _at_cut(probabilities: Map, mask: Mask) -> Values:
    return counted(probabilities >= _CUT, is_polyp(mask))


def _by_batch(pixels: Values, ratio: Callable[[float, float], float]) -> float:
    """`ratio` takes the pixels of a class that are right and those that are wrong either way."""
    if len(pixels) <= BATCH:
        raise ValueError(
            f"a score divided by the batches less one needs more than {BATCH} images, found {len(pixels)}"
        )
    batches = [pixels[first : first + BATCH].sum(axis=0) for first in range(0, len(pixels), BATCH)]
    classes = [(ratio(tp, fp + fn), ratio(tn, fp + fn)) for tp, fp, fn, tn in batches]
    return float(np.mean(classes, axis=1).sum() / (len(batches) - 1))


@_CHALLENGE.of_set(_at_cut, num_needed=BATCH + 1)
def dice_mediaeval(pixels: Values) -> float:
    """Mean Dice of polyp and background by batch of 16, divided by the batches less one. 0/0 is 0."""
    return _by_batch(pixels, lambda right, wrong: 2 * right / (2 * right + wrong + _TINY))


@_CHALLENGE.of_set(_at_cut, num_needed=BATCH + 1)
def iou_mediaeval(pixels: Values) -> float:
    """Mean IoU of polyp and background by batch of 16, divided by the batches less one. 0/0 is 0."""
    return _by_batch(pixels, lambda right, wrong: right / (right + wrong + _TINY))
