"""Hole filling and removal of small components for a probability map, at all 255 thresholds in one pass.

Both are increasing operators that commute with thresholding: a filtered map, thresholded at any bin, equals the
filtered thresholded map (Maragos and Ziff, IEEE PAMI 1990). So a histogram of filtered bins scores every threshold
exactly. Holes are filled by reconstruction (Vincent, IEEE Trans. Image Processing 1993), components removed by
grey-scale area opening (Vincent, 1993).

Polyp pixels are connected with 8 neighbours; background, and so a hole, with 4 neighbours.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def filter_bins(bins: NDArray[np.uint8], fill_holes: bool, min_component_area: float) -> NDArray[np.uint8]:
    """bins (H, W) from `histograms.quantize` -> (H, W): holes filled first, then small components removed.

    min_component_area is a share of the frame in [0, 1]: a component below it becomes background, at every threshold;
    0 keeps all. ValueError: bins that are not uint8 (H, W), a share outside [0, 1].
    """
    if bins.dtype != np.uint8 or bins.ndim != 2:
        raise ValueError(f"expected bins uint8 (H, W), found {bins.dtype} {bins.shape}")
    if not 0 <= min_component_area <= 1:
        raise ValueError(f"expected an area as a share of the frame in [0, 1], found {min_component_area}")
    filled = _fill_holes(bins) if fill_holes else bins
    return _drop_small(filled, min_component_area * bins.size) if min_component_area > 0 else filled


def _fill_holes(bins: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Raise each pixel to the lowest barrier on its way to the edge of the frame (reconstruction by erosion)."""
    flood = np.full_like(bins, 255)
    flood[[0, -1], :], flood[:, [0, -1]] = bins[[0, -1], :], bins[:, [0, -1]]
    while True:
        lower = np.maximum(cv2.erode(flood, _CROSS), bins)
        if np.array_equal(lower, flood):
            return flood
        flood = lower


def _drop_small(bins: NDArray[np.uint8], min_pixels: float) -> NDArray[np.uint8]:
    """Lower every peak to the highest level at which its component has the area (area opening)."""
    opened = bins.copy()
    window, below = opened, 0
    for level in np.unique(bins[bins > 0]):
        window = _bounding_box(window >= level, window)  # pixels below this level are final
        if not window.size:
            break
        _, labels, found, _ = cv2.connectedComponentsWithStats(
            (window >= level).view(np.uint8), connectivity=8
        )
        small = found[:, cv2.CC_STAT_AREA] < min_pixels
        small[0] = False  # the background
        if small.any():
            window[small[labels]] = below
        below = level
    return opened


def _bounding_box(wanted: NDArray[np.bool_], window: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A view of the smallest rectangle of the window with all wanted pixels."""
    rows, columns = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    if not len(rows):
        return window[:0, :0]
    return window[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
