"""Distances between two outlines: Hausdorff distances, normalised surface Dice (NSD) and boundary F of one image.

The outline of a mask is every pixel of it that has a neighbour (above, below, left, right) outside it; a pixel on the
edge of the frame belongs to it. Distances are Euclidean, from pixel centre to pixel centre, exact.

Empty masks are handled here alone. Both empty: distance 0, boundary F and NSD 1. One empty: the diagonal of the
frame, hypot(H, W), which no two pixels reach, so normalised 1; boundary F and NSD 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Csurka et al. (BMVC 2013) score boundaries at this share of the diagonal: 3.7 pixels at 352 x 352.
TOLERANCE = 0.0075


class OutlineGaps(NamedTuple):
    """For each outline pixel of one mask, the distance in pixels to the nearest outline pixel of the other."""

    of_predicted: NDArray[np.float64]  # (P,), empty for an empty prediction
    of_truth: NDArray[np.float64]  # (T,), empty for an empty mask
    diagonal: float  # of the frame, in pixels


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """mask (H, W) -> (H, W): its pixels at a border to background or to the edge of the frame."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def outline_gaps(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> OutlineGaps:
    """Two masks (H, W) -> the gaps between their outlines; if either is empty, the other's gaps are the diagonal.

    ValueError: shapes that differ, masks that are not boolean.
    """
    if predicted.shape != truth.shape or predicted.ndim != 2:
        raise ValueError(f"expected two masks (H, W) of one shape, found {predicted.shape} and {truth.shape}")
    if predicted.dtype != np.bool_ or truth.dtype != np.bool_:
        raise ValueError(f"expected boolean masks, found {predicted.dtype} and {truth.dtype}")
    diagonal = float(np.hypot(*truth.shape))
    ours, theirs = np.argwhere(outline(predicted)), np.argwhere(outline(truth))
    if not len(ours) or not len(theirs):
        return OutlineGaps(np.full(len(ours), diagonal), np.full(len(theirs), diagonal), diagonal)
    from scipy.spatial import KDTree  # takes a fifth of what `leaderboard` takes, which needs no distance

    return OutlineGaps(KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0], diagonal)


def distances(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], *, tolerance: float = TOLERANCE
) -> dict[str, float]:
    """All scores of this file for masks (H, W), from one nearest-neighbour search.

    hausdorff: the largest gap between the outlines, either way round, in pixels. hausdorff95: what 95 % of either
    outline's pixels stay within, the larger of the two percentiles, as in MONAI and Metrics Reloaded (Maier-Hein et
    al., 2024); MedPy takes one percentile of both sets together. `..._normalised`: shares of the diagonal. boundary_f:
    harmonic mean of the shares of either outline that lie near the other (Csurka et al., BMVC 2013). nsd: the share of
    both outlines together. Refused with ValueError: a tolerance, a share of the diagonal, below 0.
    """
    gaps = outline_gaps(predicted, truth)
    far, far95 = _quantile(gaps, 1.0), _quantile(gaps, 0.95)
    return {
        "hausdorff": far,
        "hausdorff95": far95,
        "hausdorff_normalised": far / gaps.diagonal,
        "hausdorff95_normalised": far95 / gaps.diagonal,
        "boundary_f": _boundary_f(gaps, tolerance),
        "nsd": _surface_dice(gaps, tolerance),
    }


def _quantile(gaps: OutlineGaps, share: float) -> float:
    return float(max((np.quantile(one, share) for one in gaps[:2] if len(one)), default=0.0))


def _surface_dice(gaps: OutlineGaps, tolerance: float) -> float:
    """Share of the pixels of both outlines that lie near the other outline (Nikolov et al., JMIR 2021)."""
    both = np.concatenate(gaps[:2])
    return float(np.mean(both <= tolerance * gaps.diagonal)) if len(both) else 1.0


def _boundary_f(gaps: OutlineGaps, tolerance: float) -> float:
    if tolerance < 0:
        raise ValueError(f"expected a tolerance of 0 or more, as a share of the diagonal, found {tolerance}")
    if not len(gaps.of_predicted) or not len(gaps.of_truth):
        return float(len(gaps.of_predicted) == len(gaps.of_truth))
    precision, recall = (np.mean(one <= tolerance * gaps.diagonal) for one in gaps[:2])
    return float(2 * precision * recall / (precision + recall)) if precision + recall > 0 else 0.0
