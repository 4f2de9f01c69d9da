"""A pretrained encoder that is held still, released, and trained at a rate of its own."""

from collections.abc import Iterator

import pytest
import torch
from drawn import drawn_cases, drawn_fit, learned, train
from torch import Tensor

from orchestrator import models
from orchestrator.training.optimization.encoder import PretrainedEncoder
from orchestrator.training.optimization.optimizers import optimizer_of
from orchestrator.training.optimization.schedules import Schedule
from orchestrator.training.recipe import FitSpec, Recipe

TINY = {"encoder": "test_resnet", "pretrained": False, "width": 16}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return drawn_cases(tmp_path_factory.mktemp("home"))


def with_encoder(cases, **recipe) -> FitSpec:
    spec = drawn_fit(cases, **{"epochs": 3, "num_val": 2} | recipe)
    return spec.model_copy(update={"network": "pranet", "network_params": TINY})


def halves(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of the encoder, and the others."""
    own = {name: value for name, value in weights.items() if name.startswith("encoder.")}
    return own, {name: value for name, value in weights.items() if name not in own}


def first_weights(spec: FitSpec) -> dict[str, Tensor]:
    torch.manual_seed(spec.recipe.seed)
    return models.build(spec.network, **spec.network_params).state_dict()


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[bool]:
    return [torch.equal(value, other[name]) for name, value in one.items()]


@pytest.mark.parametrize("more", [{}, {"weight_averaging": "ema", "averaging_start": 0.0}], ids=["", "ema"])
def test_with_a_factor_of_zero_weights_and_statistics_of_the_encoder_stay(cases, tmp_path, more):
    spec = with_encoder(cases, encoder_learning_rate_factor=0.0, **more)
    own, rest = halves(train(spec, cases, tmp_path).weights)
    assert all(are_equal(own, first_weights(spec)))
    assert not any(
        are_equal({n: v for n, v in rest.items() if v.dtype.is_floating_point}, first_weights(spec))
    )


def test_an_encoder_is_held_for_so_many_epochs_and_then_trained(cases, tmp_path):
    spec = with_encoder(cases, freeze_epochs=2, num_val=0)
    held, released = (
        train(spec.model_copy(update={"stop_after": stop}), cases, tmp_path / str(stop)).weights
        for stop in (2, 3)
    )
    assert all(are_equal(halves(held)[0], first_weights(spec)))
    trained = {name: value for name, value in halves(released)[0].items() if "weight" in name}
    assert not any(are_equal(trained, first_weights(spec)))


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_a_fit_that_was_stopped_while_its_encoder_was_held_ends_like_an_undisturbed_one(
    cases, tmp_path, optimizer
):
    fields = {"epochs": 4, "freeze_epochs": 2, "encoder_learning_rate_factor": 0.5, "optimizer": optimizer}
    spec = with_encoder(cases, **fields)
    undisturbed = train(spec, cases, tmp_path / "undisturbed")
    for stop in (0, 2):
        assert train(spec, cases, tmp_path / "parts", report=lambda row, at=stop: row["epoch"] < at) is None
    resumed = train(spec, cases, tmp_path / "parts")
    assert learned(resumed) == learned(undisturbed)
    assert all(are_equal(resumed.weights, undisturbed.weights))


def test_the_schedule_moves_the_rate_of_the_encoder_along():
    network = models.build("pranet", **TINY)
    recipe = Recipe(epochs=4, learning_rate=0.1, schedule="poly", encoder_learning_rate_factor=0.25)
    encoder = PretrainedEncoder(network, models.encoder_parts(network), recipe)
    optimizer = optimizer_of(network, recipe, encoder.parameters)
    schedule = Schedule(optimizer, recipe)
    optimizer.step()
    schedule.step(0.5)
    rest, own = optimizer.param_groups
    assert own["lr"] == pytest.approx(rest["lr"] / 4) and schedule.rate == rest["lr"] < 0.1
    assert len(own["params"]) + len(rest["params"]) == len(list(network.parameters()))
    assert {id(one) for one in own["params"]} == {id(one) for one in network.encoder.parameters()}


def test_parameters_that_a_network_itself_does_not_train_stay_so():
    network = models.build("pranet", **TINY)
    fixed = next(network.encoder.parameters()).requires_grad_(False)
    encoder = PretrainedEncoder(network, models.encoder_parts(network), Recipe(freeze_epochs=1))
    assert encoder.prepare(0) and encoder.prepare(1) and not encoder.prepare(2)
    assert not fixed.requires_grad and all(one.requires_grad for one in encoder.parameters)


@pytest.mark.parametrize("name", [one for one in models.names() if "pretrained" in models.params(one)])
def test_every_network_that_can_start_from_imagenet_says_which_modules_do(name):
    with torch.device("meta"):
        network = models.build(name, pretrained=False)
    assert 0 < len(models.encoder_parts(network)) < len(list(network.modules()))


def test_a_network_without_an_encoder_is_refused():
    network = models.build("unet", base_channels=4)
    with pytest.raises(ValueError, match="has no encoder"):
        PretrainedEncoder(network, models.encoder_parts(network), Recipe(freeze_epochs=1))
