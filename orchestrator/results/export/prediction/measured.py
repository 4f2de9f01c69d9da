"""Measurements of a mask (pixels, share of the frame, polyps), and the table of all images of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

HEADER = ("file", "frame", "seconds", "width", "height", "polyp_pixels", "polyp_fraction", "polyp_count")


@dataclass(frozen=True)
class Measured:
    """Measurements of one mask; polyps are pieces whose pixels touch, at a corner too."""

    width: int
    height: int
    polyp_pixels: int
    polyp_fraction: float  # of the frame, 0 to 1
    polyp_count: int


def measured(mask: NDArray[np.bool_]) -> Measured:
    """Measurements of a mask bool (H, W)."""
    height, width = mask.shape
    count, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    pixels = int(np.count_nonzero(mask))
    return Measured(width, height, pixels, pixels / mask.size, count - 1)


def table(rows: Iterable[tuple[str, int | None, float | None, Measured]]) -> bytes:
    """Content of polyps.csv: file, frame from 1 and its time where it is a video's, and the measurements."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for file, frame, seconds, found in rows:
        time = "" if seconds is None else f"{seconds:.3f}"
        writer.writerow([file, "" if frame is None else frame, time, *asdict(found).values()])
    return text.getvalue().encode()
