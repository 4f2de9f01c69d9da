"""The ends of the ranges of releases that `make test-bounds` installs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from bounds import constraints
from packaging.requirements import Requirement

DEPENDENCIES = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"][
    "dependencies"
]


def test_the_packages_whose_private_names_are_used_are_tested_at_both_ends():
    lowest, newest = (constraints(which, DEPENDENCIES) for which in ("lowest", "newest"))
    assert [Requirement(line).name for line in lowest] == ["ray", "optuna", "mlflow", "torch", "torchvision"]
    own = {one.name: one.specifier for one in map(Requirement, DEPENDENCIES)}
    for line, upper in zip(lowest[:4], newest, strict=True):
        name, _, release = line.removesuffix(".*").partition("==")
        assert f"{release}.0" in own[name] and f"{release}.0" in Requirement(upper).specifier


def test_a_package_without_an_upper_bound_is_reported():
    with pytest.raises(ValueError, match="gives ray no lower and upper bound"):
        constraints("lowest", ["ray[default]>=2.55"])
