"""Every metric of the registry, computed from two masks of one image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.scoring.components import PolypCounts, count_polyps
from orchestrator.scoring.distances import distances
from orchestrator.scoring.metrics import scores_of_masks


def score_masks(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], polyps: PolypCounts | None = None
) -> dict[str, float]:
    """Every metric of the registry, of one image; both masks bool (H, W). `polyps`: counted here if not given."""
    counts = count_polyps(mask, truth) if polyps is None else polyps
    return scores_of_masks(mask, truth) | distances(mask, truth) | {"lesion_f1": counts.lesion_f1}
