from __future__ import annotations

import numpy as np

from orchestrator.data.resize import resize_image, resize_probability


def test_an_image_becomes_square_and_keeps_its_channels_and_type():
    resized = resize_image(np.zeros((50, 80, 3), np.uint8), 32)
    assert resized.shape == (32, 32, 3) and resized.dtype == np.uint8


def test_shrinking_averages_areas():
    stripes = np.tile(np.array([0, 100], np.uint8), (4, 2))
    assert (resize_image(stripes, 2) == 50).all()


def test_enlarging_one_side_is_bilinear():
    assert resize_image(np.full((10, 100), 7, np.uint8), 40).tolist() == [[7] * 40] * 40


def test_probabilities_go_back_to_the_height_and_width_of_the_image():
    probability = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    back = resize_probability(probability, 9, 12)
    assert back.shape == (9, 12) and back.dtype == np.float32 and 0 <= back.min() <= back.max() <= 1


def test_the_right_size_is_left_alone():
    probability = np.ones((3, 5), np.float32)
    assert resize_probability(probability, 3, 5) is probability
