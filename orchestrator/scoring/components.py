"""Polyps counted as objects: which connected components of two masks of one image are the same polyp.

A predicted component is a hit where it overlaps one of the truth with an IoU above one half; no component can then
match two (Maier-Hein et al., Metrics Reloaded, 2024). Pixels that touch at a corner are connected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.scoring.formatting import finite, with_ends
from orchestrator.scoring.statistics import rate_interval, share_interval

MATCH = 0.5
POLYP_COUNTS = ("polyps", "polyps_found", "areas_marked")


@dataclass(frozen=True)
class PolypCounts:
    """Counts of polyps as components, in one image or in several."""

    there: int  # components of the truth
    found: int  # of these, hit by a component of the prediction
    predicted: int  # components of the prediction
    images: int = 1
    # 95 % intervals of sensitivity and of false positives an image, over groups of images; None: not known.
    interval: tuple[float, float] | None = None
    false_positives_interval: tuple[float, float] | None = None

    @property
    def sensitivity(self) -> float | None:
        """Share of the polyps that are found; None where there are none."""
        return self.found / self.there if self.there else None

    @property
    def lesion_f1(self) -> float:
        """Hits twice over all components of both masks, in [0, 1]; 1 where neither has any."""
        components = self.predicted + self.there
        return 2 * self.found / components if components else 1.0

    @property
    def false_positives(self) -> int:
        """Components of the prediction that hit no polyp: outside all of them, or with too small an overlap."""
        return self.predicted - self.found

    @property
    def false_positives_per_image(self) -> float:
        return self.false_positives / self.images

    @classmethod
    def total(cls, counts: Iterable[PolypCounts], groups: Sequence[str]) -> PolypCounts:
        """Counts over all images together; groups (N,): the sampling units of both intervals."""
        rows = np.array([(one.there, one.found, one.predicted) for one in counts], np.int64).reshape(-1, 3)
        interval = share_interval(rows[:, 1], rows[:, 0], groups)
        there, found, predicted = (int(column.sum()) for column in rows.T)
        wrong = rate_interval(rows[:, 2] - rows[:, 1], groups)
        return cls(
            there, found, predicted, len(rows), interval if there else None, wrong if len(rows) else None
        )

    @classmethod
    def of_columns(cls, columns: Mapping[str, NDArray[np.float64]], groups: Sequence[str]) -> PolypCounts:
        """Counts over all images, from columns (N,) of the values of `as_scores`; groups (N,)."""
        rows = np.column_stack([columns[name] for name in POLYP_COUNTS]).round().astype(int)
        return cls.total((cls(*row) for row in rows.tolist()), groups)

    def as_scores(self) -> dict[str, float]:
        """The three counts by the names of `POLYP_COUNTS`."""
        return dict(zip(POLYP_COUNTS, (self.there, self.found, self.predicted), strict=True))

    def as_dict(self) -> dict[str, float | None]:
        """Counts, sensitivity and false positives per image, both with interval, as plain values."""
        return {
            "polyps": self.there,
            "found": self.found,
            "sensitivity": self.sensitivity,
            "sensitivity_low": _end(self.interval, 0),
            "sensitivity_high": _end(self.interval, 1),
            "false_positives": self.false_positives,
            "false_positives_per_image": self.false_positives_per_image,
            "false_positives_per_image_low": _end(self.false_positives_interval, 0),
            "false_positives_per_image_high": _end(self.false_positives_interval, 1),
        }

    def sentence(self) -> str:
        """How many polyps were found, and how many areas were marked that match none."""
        share = ""
        if self.sensitivity is not None:
            share = f" (sensitivity {100 * self.sensitivity:.1f} %{with_ends(self.interval)})"
        return (
            f"Polyps as objects: {self.found:,} of {self.there:,} found{share}, with an overlap (IoU) above one half; "
            f"{self.false_positives:,} areas marked that match none, {self.false_positives_per_image:.2f} per image"
            f"{_ends(self.false_positives_interval)}."
        )


def _end(interval: tuple[float, float] | None, which: int) -> float | None:
    """One end of an interval; None where it is not known or not finite."""
    return None if interval is None else finite(interval[which])


def _ends(interval: tuple[float, float] | None) -> str:
    """(0.1, 0.32) -> " (95 % 0.10 to 0.32)", to follow a rate; nothing where no interval is known."""
    if interval is None or not math.isfinite(interval[1]):
        return ""
    return f" (95 % {interval[0]:.2f} to {interval[1]:.2f})"


def count_polyps(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> PolypCounts:
    """The polyps of one image, two masks (H, W)."""
    num_predicted, ours = cv2.connectedComponents(predicted.astype(np.uint8), connectivity=8)
    num_truth, theirs = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
    together = np.bincount((theirs * num_predicted + ours).ravel(), minlength=num_truth * num_predicted)
    overlap = together.reshape(num_truth, num_predicted)  # row and column 0 are background
    union = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0, keepdims=True) - overlap
    hits = int((overlap[1:, 1:] > MATCH * union[1:, 1:]).sum())
    return PolypCounts(num_truth - 1, hits, num_predicted - 1)
