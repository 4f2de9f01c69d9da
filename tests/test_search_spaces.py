"""Every search-space file that is shipped loads, draws, and builds its network."""

from __future__ import annotations

import tomllib
import warnings
from pathlib import Path

import optuna
import pytest
import torch

from orchestrator import models
from orchestrator.search.space.builds import check_builds
from orchestrator.search.space.schema import json_schema
from orchestrator.search.space.space_file import load_space

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # jsonschema's own, on import
    from jsonschema import Draft202012Validator

FILES = sorted((Path(__file__).parents[1] / "search_spaces").glob("*.toml"))
# Many encoders or networks to choose from, or encoders that others have.
LARGE = ("emcad", "encoder_decoder", "polyp_pvt", "sam2_unet", "uacanet_l", "which_network")
BY_NAME = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
SCHEMA = Draft202012Validator(json_schema())


@pytest.mark.slow  # those at the ends of all parameters are built below
@BY_NAME
def test_file_draws_configurations_whose_networks_can_be_built(file: Path):
    space = load_space(file)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for baseline in space.baselines:
        study.enqueue_trial(baseline)
    for params in (space.sample(study.ask()) for _ in range(2 + len(space.baselines))):
        configuration = space.configuration(params)
        # No memory and no download: what is asked here is whether the parameters fit the builder.
        with torch.device("meta"):
            network = models.build(
                configuration.network, **configuration.network_params | offline(configuration.network)
            )
        assert sum(parameter.numel() for parameter in network.parameters()) > 0
        assert configuration.recipe.image_size % models.stride(configuration.network) == 0


def offline(network: str) -> dict[str, bool]:
    return {"pretrained": False} if "pretrained" in models.params(network) else {}


@BY_NAME
def test_file_tries_its_baseline_first(file: Path):
    space = load_space(file)
    study = optuna.create_study()
    study.enqueue_trial(space.baselines[0])
    assert space.sample(study.ask()) == space.baseline_params()
    assert {one.get("network", space.networks[0]) for one in space.baselines} == set(space.networks)


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=pytest.mark.slow) if file.stem in LARGE else file for file in FILES],
    ids=lambda file: file.stem,
)
def test_networks_of_file_take_the_ends_of_its_parameters(file: Path):
    check_builds(load_space(file))


@BY_NAME
def test_file_opens_with_how_to_run_it_and_what_it_costs(file: Path):
    comment = file.read_text(encoding="utf-8").split("network =")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert f"orchestrator search search_spaces/{file.name}" in comment
    assert "# Cost: " in comment and "# Result: " in comment


@BY_NAME
def test_file_fits_the_schema_for_editors(file: Path):
    assert [error.message for error in SCHEMA.iter_errors(tomllib.loads(file.read_text("utf-8")))] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        'network = "unte"',
        'network = { choice = ["unet"] }',
        'network = "unet"\nfixd = 1',
        'network = "unet"\nfixed = { epohs = 1 }',
        'network = "unet"\nfixed = { epochs = 0 }',
        'network = "unet"\nfixed = { loss = "bec" }',
        'network = "unet"\nbaseline = { epochs = [1] }',
        'network = "unet"\nsearch = { epochs = 3 }',
        'network = "unet"\nsearch = { epochs = { int = [1] } }',
        'network = "unet"\nsearch = { epochs = { int = [1, 2], stp = 1 } }',
        'network = "unet"\nsearch = { epochs = { sweep = [0.1, 0.9] } }',
        'network = "unet"\nsearch = { epochs = { choice = [1], when = 3 } }',
    ],
)
def test_the_schema_refuses_what_loading_refuses(text):
    assert not SCHEMA.is_valid(tomllib.loads(text))


def test_the_schema_takes_conditions_and_sweeps():
    text = """
    network = { choice = ["unet", "gmsrf_net"] }
    [search]
    growth_rate = { int = [8, 32], step = 8, when = { network = "gmsrf_net" } }
    base_channels = { choice = [8, 16], when = { network = ["unet"] } }
    threshold = { sweep = [0.1, 0.9] }
    """
    assert SCHEMA.is_valid(tomllib.loads(text))


def test_the_schema_is_one():
    Draft202012Validator.check_schema(json_schema())


def test_every_network_has_a_file():
    assert set(models.names()) == {network for file in FILES for network in load_space(file).networks}
