"""Edges are those that OpenCV finds, pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from orchestrator.models.canny import canny


def as_tensor(image: np.ndarray) -> Tensor:
    """(H, W, C) in 0..255 -> (1, C, H, W) in [0, 1]"""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def found_by_opencv(image: np.ndarray, low: int, high: int) -> Tensor:
    return torch.from_numpy(cv2.Canny(image, low, high) > 0).float()[None, None]


@pytest.mark.parametrize(("low", "high"), [(10, 1000), (300, 900), (0, 100)])
@pytest.mark.parametrize("channels", [1, 3])
def test_edges_of_noise_are_opencvs(channels, low, high):
    image = np.random.default_rng(0).integers(0, 256, (65, 47, channels), dtype=np.uint8)
    assert torch.equal(canny(as_tensor(image), low, high), found_by_opencv(image, low, high))


def test_an_edge_is_followed_to_its_end_however_it_winds():
    """A faint band to and fro over the whole image, with a bright spot at its start."""
    image = np.zeros((256, 256, 3), np.uint8)
    for number, top in enumerate(range(8, 240, 8)):
        image[top : top + 4, 8:248] = 60
        turn = slice(244, 248) if number % 2 else slice(8, 12)
        image[top + 4 : top + 8, turn] = 60
    image[4:8, 120:124] = 255
    expected = found_by_opencv(image, 10, 1000)
    assert expected[..., 230:, :].any()
    assert torch.equal(canny(as_tensor(image), 10, 1000), expected)


def test_every_image_of_a_batch_has_its_own_edges():
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 40, 3), dtype=np.uint8)
    together = canny(torch.cat([as_tensor(image) for image in images]), 10, 1000)
    for edges, image in zip(together, images, strict=True):
        assert torch.equal(edges[None], found_by_opencv(image, 10, 1000))
