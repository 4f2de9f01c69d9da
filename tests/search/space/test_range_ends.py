"""Values of the best configuration at an end of a range: the user should learn that a wider one may hold better."""

from __future__ import annotations

import pytest

from orchestrator.search.space.space import SearchSpace
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


def bounded(line: str, baseline: str) -> SearchSpace:
    return parse_space(f'network = "unet"\n[search]\n{line}\n[fixed]\nepochs = 3\n[baseline]\n{baseline}\n')


@pytest.mark.parametrize(
    ("line", "params"),
    [
        ("weight_decay = { uniform = [0.0, 0.1] }", {"weight_decay": 0.0}),
        ("augmentation_strength = { uniform = [0.5, 1.0] }", {"augmentation_strength": 1.0}),
        ("batch_size = { int = [1, 8] }", {"batch_size": 1}),
        ("min_component_area = { uniform = [0.0, 0.1], step = 0.01 }", {"min_component_area": 0.0}),
    ],
)
def test_nothing_is_said_of_an_end_beyond_which_there_are_no_values(line, params):
    (name, value), *_ = params.items()
    assert bounded(line, f"{name} = {value}").at_range_ends(params) == ()


def test_a_whole_number_at_an_end_is_said_in_full():
    space = bounded("image_size = { int = [224, 1024], step = 32 }", "image_size = 256")
    assert space.at_range_ends({"image_size": 1024}) == (
        "image_size 1024 at the upper end of 224 to 1024 in steps of 32",
    )


CHOICE = parse_space("""
network = { choice = ["unet", "unet_mediaeval"] }
[search]
learning_rate = { log_uniform = [1e-4, 1e-2] }
clip_norm = { log_uniform = [0.5, 2.0] }
[unet.search]
learning_rate = { log_uniform = [1e-3, 1e-1] }
base_channels = { int = [8, 64], log = true }
[fixed]
epochs = 3
optimizer = "sgd"
[baseline]
learning_rate = 1e-3
clip_norm = 1.0
[unet.baseline]
learning_rate = 1e-2
base_channels = 16
""")


@pytest.mark.parametrize(
    ("network", "changed", "said"),
    [
        ("unet", {"base_channels": 64}, "base_channels 64 at the upper end of 8 to 64, log-uniform"),
        ("unet", {"learning_rate": 0.01}, None),  # an end of the other network's range
        ("unet", {"learning_rate": 0.1}, "learning_rate 0.1 at the upper end of 0.001 to 0.1, log-uniform"),
        (
            "unet_mediaeval",
            {"learning_rate": 0.01},
            "learning_rate 0.01 at the upper end of 0.0001 to 0.01, log-uniform",
        ),
    ],
)
def test_each_network_is_told_the_ends_of_its_own_ranges(network, changed, said):
    found = CHOICE.at_range_ends(CHOICE.baseline_params(network) | changed)
    assert found == (() if said is None else (said,))


def test_nothing_is_said_of_a_parameter_that_the_configuration_does_not_have():
    line = (
        'momentum = { uniform = [0.5, 0.9], when = { loss = "dice" } }\nloss = { choice = ["dice", "bce"] }'
    )
    space = bounded(line, 'momentum = 0.7\nloss = "dice"')
    at_end = {**space.baseline_params(), "momentum": 0.9}
    assert space.at_range_ends(at_end) == ("momentum 0.9 at the upper end of 0.5 to 0.9",)
    assert space.at_range_ends(at_end | {"loss": "bce"}) == ()
