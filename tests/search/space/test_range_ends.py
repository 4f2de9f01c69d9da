"""Values of the best configuration at an end of a range: the user should learn that a wider one may hold better."""

from __future__ import annotations

import pytest

from orchestrator.search.space.space_file import parse_space

SPACE = parse_space("""
network = "unet"
[search]
learning_rate = { log_uniform = [1e-4, 1e-2] }
clip_norm     = { uniform = [0.5, 2.0] }
image_size    = { int = [224, 352], step = 32 }
loss          = { choice = ["dice", "bce_dice"] }
[fixed]
epochs = 3
[baseline]
learning_rate = 1e-3
clip_norm = 1.0
image_size = 256
loss = "dice"
""")
INSIDE = {"learning_rate": 1e-3, "clip_norm": 1.0, "image_size": 256, "loss": "dice"}


def test_nothing_is_said_of_values_inside_and_of_choices():
    assert SPACE.at_range_ends(INSIDE) == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"learning_rate": 0.00999}, "learning_rate 0.00999 at the upper end of 0.0001 to 0.01, log-uniform"),
        ({"clip_norm": 0.5}, "clip_norm 0.5 at the lower end of 0.5 to 2"),
        ({"image_size": 352}, "image_size 352 at the upper end of 224 to 352 in steps of 32"),
    ],
)
def test_a_value_at_an_end_is_said_with_its_range(value, said):
    assert SPACE.at_range_ends(INSIDE | value) == (said,)


def test_the_ends_of_a_logarithmic_range_are_ends_on_its_scale():
    assert (
        SPACE.at_range_ends(INSIDE | {"learning_rate": 1.2e-4}) == ()
    )  # 2 % of the linear range, 4 % of the other
