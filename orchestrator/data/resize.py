"""Resizing of images to network size and of probabilities back: one rule for training, scoring and export."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def resize_image(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 (H, W, ...) -> uint8 (size, size, ...): area average where neither side grows, else bilinear."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    shrinks = height >= size and width >= size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)  # type: ignore[return-value]


def resize_probability(probability: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """float32 (h, w) in [0, 1] -> float32 (height, width) in [0, 1], bilinear."""
    if probability.shape == (height, width):
        return probability
    return cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
