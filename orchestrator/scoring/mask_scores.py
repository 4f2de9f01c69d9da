"""Every metric of the registry, computed from two masks of one image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.scoring.components import lesion_scores
from orchestrator.scoring.distances import distances
from orchestrator.scoring.metrics import scores_of_masks


def score_masks(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float]:
    """Every metric of the registry, of one image; both masks bool (H, W)."""
    return scores_of_masks(mask, truth) | distances(mask, truth) | lesion_scores(mask, truth)
