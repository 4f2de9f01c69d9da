"""Outlines on an image: the truth in blue, the prediction in yellow on top of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

# RGB; all eyes distinguish them, from each other and from mucosa.
TRUTH, PREDICTION = (60, 160, 255), (255, 225, 0)


def outlined(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    truth: NDArray[np.bool_] | None = None,
    *,
    width: int | None = None,
) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3), masks bool (H, W) -> an outlined copy; that of the truth is the wider one.

    width: of the mask's outline in pixels; None: by the size of the image.
    """
    drawn = np.ascontiguousarray(image).copy()
    thickness = width or max(1, round(min(image.shape[:2]) / 200))
    if truth is not None:
        _outline(drawn, truth, TRUTH, thickness + 2)
    _outline(drawn, mask, PREDICTION, thickness)
    return drawn


def png(image: NDArray[np.uint8]) -> bytes:
    """RGB uint8 (H, W, 3) or gray uint8 (H, W) -> the bytes of a PNG file."""
    encoded, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image)
    if not encoded:
        raise RuntimeError(f"OpenCV could not encode an image of shape {image.shape}")
    return data.tobytes()


def no_png(option: str, path: Path) -> list[str]:
    """Problems of a path for a PNG file; empty if it is valid."""
    problems = []
    if path.suffix.lower() != ".png":
        problems.append(f"{option}: expected a file that ends in .png, found {path}")
    if not path.absolute().parent.is_dir():
        problems.append(f"{option}: there is no folder {path.absolute().parent}")
    return problems


def _outline(
    drawn: NDArray[np.uint8], mask: NDArray[np.bool_], color: tuple[int, int, int], width: int
) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, color, width)
