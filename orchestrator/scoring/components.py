"""Polyps counted as objects: which connected components of two masks of one image are the same polyp.

A predicted component is a hit where it overlaps one of the truth with an IoU above one half; no component can then
match two (Maier-Hein et al., Metrics Reloaded, 2024). Pixels that touch at a corner are connected.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MATCH = 0.5


def lesion_scores(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float]:
    """Two masks (H, W) -> `lesion_f1` in [0, 1]: hits twice over all components of both; 1 where neither has any."""
    num_predicted, ours = cv2.connectedComponents(predicted.astype(np.uint8), connectivity=8)
    num_truth, theirs = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
    together = np.bincount((theirs * num_predicted + ours).ravel(), minlength=num_truth * num_predicted)
    overlap = together.reshape(num_truth, num_predicted)  # row and column 0 are background
    union = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0, keepdims=True) - overlap
    hits = int((overlap[1:, 1:] > MATCH * union[1:, 1:]).sum())
    components = num_predicted + num_truth - 2
    return {"lesion_f1": 2 * hits / components if components else 1.0}
