from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Literal

import pytest
from torch import nn

from orchestrator import models


def test_every_network_has_a_small_variant_so_the_other_tests_meet_it(small_variants):
    assert small_variants == set(models.names())


def test_names_are_sorted_and_each_has_a_summary_and_a_stride():
    assert list(models.names()) == sorted(models.names())
    for name in models.names():
        assert len(models.summary(name)) > 20
        assert models.stride(name) >= 1


def test_every_parameter_has_a_default_and_a_real_type():
    for name in models.names():
        for parameter in models.params(name).values():
            assert parameter.default is not inspect.Parameter.empty
            assert not isinstance(parameter.annotation, str)


def test_choices_of_a_parameter_can_be_read_from_its_type():
    assert models.params("gmsrf_net")["variant"].annotation == Literal["paper", "code"]


def test_an_unknown_network_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'unett'.*gmsrf_net.*resunet_pp.*unet"):
        models.build("unett")


def test_all_unknown_parameters_are_refused_at_once_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unet has no parameter 'k', 'base'; known: base_channels"):
        models.build("unet", k=3, base=4)


WRONG = {str: 3, int: "x", bool: 1, float: "0.5"}


@pytest.mark.parametrize("name", models.names())
def test_a_value_of_the_wrong_type_is_refused_before_anything_is_built(name: str):
    for key, parameter in models.params(name).items():
        wrong = WRONG.get(type(parameter.default), ["a"])
        for value in (wrong, ["a"], True if parameter.annotation is int else wrong):
            with pytest.raises(ValueError, match=rf"^{key} must be .*, got "):
                models.build(name, **{key: value})


def test_all_values_of_the_wrong_type_are_refused_at_once():
    with pytest.raises(
        ValueError, match=r"^encoder must be text, got 3; width must be an integer, got '64'$"
    ):
        models.build("encoder_decoder", encoder=3, width="64")


def test_two_networks_cannot_share_a_name():
    def unet() -> nn.Module:
        return nn.Identity()

    with pytest.raises(ValueError, match="two networks are named 'unet'"):
        models.register(stride=1)(unet)


def test_a_builder_whose_parameter_has_no_default_is_refused():
    def without_default(*, width: int) -> nn.Module:
        return nn.Identity()

    with pytest.raises(TypeError, match="'width' must be keyword-only and have a default"):
        models.register(stride=1)(without_default)


def test_listing_networks_does_not_import_timm():
    code = "import sys, models; models.names(); sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
