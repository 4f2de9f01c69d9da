"""Post-processing of a probability map: filters, the pending-case rule, the polarising threshold.

The rule is that of the parallel Res2Net with reverse attention (EndoCV 2021): pixels from the white level up are
counted; if they exceed the reference area, the map is cut at the polarising threshold, else everything becomes
background. The paper defines the reference (the smallest polyp of its dataset), but gives no number; here all are
parameters. Areas are shares of the frame, independent of image size. Order: holes are filled, small components
removed, then white pixels are counted and the map is thresholded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.scoring.histograms import NUM_BINS, bin_of, quantize


@dataclass(frozen=True)
class PostProcess:
    """Parameters that turn a probability map into a mask; the default is a threshold of one half.

    ValueError, with all problems at once: thresholds that are not a multiple of 1/256 in [1/256, 255/256] (see
    `histograms.snap`), areas outside [0, 1].
    """

    threshold: float = 0.5  # polarising: pixels from here up are polyp
    # pixels from here up count for the pending-case rule; None: the threshold
    white_level: float | None = None
    reference_area: float = (
        0.0  # share of the frame that white pixels must exceed, or all is background; 0: no rule
    )
    fill_holes: bool = False
    min_component_area: float = 0.0  # share of the frame; smaller components become background; 0: none do

    def __post_init__(self) -> None:
        levels = {"threshold": self.threshold, "white_level": self.white_level}
        areas = {"reference_area": self.reference_area, "min_component_area": self.min_component_area}
        problems = [
            f"{name} must be a multiple of 1/{NUM_BINS} above 0 and below 1, found {level}; see snap()"
            for name, level in levels.items()
            if level is not None and not (0 < level < 1 and float(level * NUM_BINS).is_integer())
        ]
        problems += [
            f"{name} must be a share of the frame in [0, 1], found {area}"
            for name, area in areas.items()
            if not 0 <= area <= 1
        ]
        if problems:
            raise ValueError("; ".join(problems))

    def apply(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """probabilities (H, W) in [0, 1] -> mask (H, W)."""
        return self.cut(self.filter(quantize(probabilities)))

    def cut(self, bins: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """bins (H, W) that are `filter`ed -> mask (H, W)."""
        white = np.count_nonzero(
            bins >= bin_of(self.threshold if self.white_level is None else self.white_level)
        )
        if white <= self.reference_area * bins.size:
            return np.zeros(bins.shape, dtype=np.bool_)
        return bins >= bin_of(self.threshold)

    def filter(self, bins: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """bins (H, W) -> filtered bins (H, W), of which histograms must be for a sweep to match `apply`."""
        from orchestrator.scoring.filters import filter_bins  # loads OpenCV

        return filter_bins(bins, self.fill_holes, self.min_component_area)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers by name, for JSON."""
        return asdict(self)
