from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from drawn import CPU, drawn_cases, drawn_fit, learned, train
from limited_memory import Plain, every_network
from torch import Tensor, nn

from orchestrator import models
from orchestrator.training.batches import TrainingBatches
from orchestrator.training.recipe import FitSpec
from orchestrator.training.validation.scores import score_cases

EPOCHS, BEGINS = 5, 2
AVERAGED = {"epochs": EPOCHS, "averaging_start": 0.4, "schedule": "constant"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Images this small are slower on many cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return drawn_cases(tmp_path_factory.mktemp("home"))


def along_the_way(spec: FitSpec, cases, folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    """The outcome of a fit, and its checkpoint after every epoch."""
    states = []

    def report(row: dict[str, float]) -> bool:
        states.append(torch.load(folder / "checkpoint.pt", weights_only=True))
        return True

    return train(spec, cases, folder, report=report), states


def weights_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is learnt: not BatchNorm's statistics."""
    return {name: value for name, value in state.items() if "running" not in name and "num_b" not in name}


def mean_in(state: dict[str, Any]) -> dict[str, Tensor]:
    kept = {name.removeprefix("module."): value for name, value in state["average"].items()}
    return {name: value for name, value in kept.items() if name != "n_averaged"}


def test_swa_is_the_mean_of_the_weights_after_each_epoch_since_it_began(cases, tmp_path):
    _, states = along_the_way(drawn_fit(cases, **AVERAGED, weight_averaging="swa"), cases, tmp_path)
    walked = [weights_of(state["network"]) for state in states[BEGINS:]]
    for name, value in weights_of(mean_in(states[-1])).items():
        torch.testing.assert_close(value, torch.stack([weights[name] for weights in walked]).mean(0))
    assert states[-1]["average"]["n_averaged"] == EPOCHS - BEGINS


def test_ema_takes_every_step_and_forgets_by_its_decay(cases, tmp_path):
    """With a decay of next to nothing the mean is the last step's weights; with one of nearly one, the first's."""
    spec = drawn_fit(cases, **AVERAGED, weight_averaging="ema", ema_decay=1e-9)
    _, states = along_the_way(spec, cases, tmp_path / "short")
    steps = len(spec.train) // spec.recipe.batch_size
    assert states[-1]["average"]["n_averaged"] == steps * (EPOCHS - BEGINS)
    for name, value in weights_of(states[-1]["network"]).items():
        torch.testing.assert_close(mean_in(states[-1])[name], value)
    long = drawn_fit(cases, **AVERAGED, weight_averaging="ema", ema_decay=1 - 1e-9)
    _, states = along_the_way(long, cases, tmp_path / "long")
    for name, value in weights_of(mean_in(states[-1])).items():
        torch.testing.assert_close(value, weights_of(mean_in(states[BEGINS]))[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["swa", pytest.param("ema", marks=pytest.mark.slow)])
def test_averaging_changes_what_is_validated_and_nothing_that_is_learnt(cases, tmp_path, kind):
    plain, plain_states = along_the_way(drawn_fit(cases, **AVERAGED), cases, tmp_path / "plain")
    mean, states = along_the_way(drawn_fit(cases, **AVERAGED, weight_averaging=kind), cases, tmp_path / kind)
    for one, other in zip(states, plain_states, strict=True):
        for name, value in other["network"].items():
            torch.testing.assert_close(one["network"][name], value, rtol=0, atol=0)
    assert learned(mean)[:BEGINS] == learned(plain)[:BEGINS]
    assert [row[1] for row in learned(mean)] == [row[1] for row in learned(plain)]
    assert [row[2] for row in learned(mean)][BEGINS + 1 :] != [row[2] for row in learned(plain)][BEGINS + 1 :]


@pytest.mark.parametrize("kind", [pytest.param("swa", marks=pytest.mark.slow), "ema"])
def test_the_record_holds_the_mean_that_its_best_epoch_was_judged_by(cases, tmp_path, kind):
    spec = drawn_fit(cases, **AVERAGED, weight_averaging=kind)
    outcome, states = along_the_way(spec, cases, tmp_path)
    assert outcome.best_epoch == int(np.argmax([row["val_dice"] for row in outcome.curves]))
    best = states[outcome.best_epoch]
    judged = mean_in(best) if outcome.best_epoch >= BEGINS else best["network"]
    assert all(torch.equal(outcome.weights[name], judged[name]) for name in outcome.weights)
    network = models.build(spec.network, **spec.network_params)
    network.load_state_dict(outcome.weights)
    np.testing.assert_array_equal(score_cases(network, cases, spec.val, CPU, spec), outcome.histograms)


@pytest.mark.parametrize(
    "recipe",
    [
        {"weight_averaging": "swa"},
        pytest.param({"weight_averaging": "ema", "precision": "bf16"}, marks=pytest.mark.slow),
        pytest.param(
            {"weight_averaging": "swa", "scales": (0.5, 1.0), "batch_size": 2}, marks=pytest.mark.slow
        ),
    ],
    ids=["swa", "ema in bf16", "multi-scale"],
)
@pytest.mark.parametrize("stops", [(1,), (BEGINS, BEGINS + 1)], ids=["before", "after it began"])
def test_a_fit_that_was_stopped_and_resumed_ends_like_an_undisturbed_one(cases, tmp_path, recipe, stops):
    spec = drawn_fit(cases, **AVERAGED, **recipe)
    undisturbed = train(spec, cases, tmp_path / "undisturbed")
    parts = tmp_path / "parts"
    for stop in stops:
        assert train(spec, cases, parts, report=lambda row, stop=stop: row["epoch"] < stop) is None
    resumed = train(spec, cases, parts)
    assert learned(resumed) == learned(undisturbed)
    assert all(torch.equal(resumed.weights[name], undisturbed.weights[name]) for name in resumed.weights)
    np.testing.assert_array_equal(resumed.histograms, undisturbed.histograms)


def test_batch_norm_knows_the_epochs_training_images_as_the_mean_weights_see_them(cases, tmp_path):
    spec = drawn_fit(cases, **AVERAGED, weight_averaging="swa")
    _, states = along_the_way(spec, cases, tmp_path)
    network = models.build(spec.network, **spec.network_params)
    network.load_state_dict(mean_in(states[-1]))
    name, norm = next((name, m) for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    norm.register_forward_pre_hook(lambda module, args: seen.append(args[0].mean((0, 2, 3))))
    batches = TrainingBatches(cases, spec.train, spec.recipe, models.stride(spec.network), CPU, 0)
    with torch.no_grad():
        network.train()
        for image, _ in batches.epoch(EPOCHS - 1):
            network(image)
    expected = torch.stack(seen).mean(0)
    torch.testing.assert_close(mean_in(states[-1])[f"{name}.running_mean"], expected, rtol=1e-4, atol=1e-5)


def test_a_network_without_batch_norm_looks_at_no_image_twice(cases, tmp_path):
    spec = drawn_fit(cases, **AVERAGED, weight_averaging="ema")
    asked, batch = [], TrainingBatches._batch

    def counted(batches: TrainingBatches, keys: Any) -> Any:
        asked.append(keys)
        return batch(batches, keys)

    with every_network(Plain), patch.object(TrainingBatches, "_batch", counted):
        train(spec, cases, tmp_path)
    assert len(asked) == EPOCHS * (len(spec.train) // spec.recipe.batch_size)


def test_micro_batches_give_the_mean_of_whole_batches(cases, tmp_path):
    spec = drawn_fit(cases, **AVERAGED, weight_averaging="swa")
    with every_network(Plain):
        whole = train(spec, cases, tmp_path / "whole")
        parts = train(spec, cases, tmp_path / "parts", micro_batch=1)
    np.testing.assert_allclose(learned(parts), learned(whole), rtol=1e-4)
    for name, value in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], value, rtol=1e-4, atol=1e-5)
