from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
import torch
from drawn import drawn_fit, learned
from joint_fit import batch_norm, fit, plain_fit, shared_batch_norm, together
from torch import nn

from orchestrator.common.errors import BadMachine, FitFailed
from orchestrator.scoring.metrics import scores_at
from orchestrator.training import workers
from orchestrator.training.fit import FitOutcome
from orchestrator.training.recipe import FitSpec

# Four share the cores of a small machine, which takes a minute.
WIDTHS = (2, pytest.param(4, marks=pytest.mark.slow))


@pytest.fixture(scope="module")
def spec(cases) -> FitSpec:
    """Eight images a step, so fewer than eight a worker; seven validation cases, which no width divides."""
    return drawn_fit(cases, num_train=10, num_val=7, batch_size=8, epochs=3, learning_rate=1e-3)


def multi_scale(spec: FitSpec) -> FitSpec:
    return spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"scales": (0.5, 1.0, 1.5)})})


def averaged(spec: FitSpec) -> FitSpec:
    update = {"weight_averaging": "swa", "averaging_start": 0.4, "epochs": 4}
    return spec.model_copy(update={"recipe": spec.recipe.model_copy(update=update)})


def released(spec: FitSpec) -> FitSpec:
    """An encoder that is held for an epoch and trained in the next two, at half the rate."""
    update = {"freeze_epochs": 1, "encoder_learning_rate_factor": 0.5}
    params = {"encoder": "test_resnet", "pretrained": False, "width": 16}
    recipe = spec.recipe.model_copy(update=update)
    return spec.model_copy(update={"network": "pranet", "network_params": params, "recipe": recipe})


def adapted(spec: FitSpec) -> FitSpec:
    """A frozen transformer with changes of low rank."""
    params = {"encoder": "test_vit", "adaptation": "lora", "width": 16, "pretrained": False}
    return averaged(spec).model_copy(update={"network": "dino_decoder", "network_params": params})


def assert_learned_alike(found: FitOutcome, wanted: FitOutcome, rtol: float = 1e-4) -> None:
    """Losses and rates agree to float error, which numbers of threads change too; Dice but for pixels that it flips."""
    a, b = np.asarray(learned(found)), np.asarray(learned(wanted))
    np.testing.assert_allclose(a[:, [0, 1, 3]], b[:, [0, 1, 3]], rtol=rtol)
    np.testing.assert_allclose(a[:, 2], b[:, 2], atol=0.005)


@pytest.fixture(scope="module")
def alone(spec, cases, home):
    """What one worker makes of the fit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    outcome = fit(spec, cases, home / "alone")
    torch.set_num_threads(
        before
    )  # sums of floats depend on it, and Adam makes whole steps of small gradients
    return outcome


@pytest.fixture(scope="module")
def group(spec, cases, home) -> Callable[[int], list[dict]]:
    """What each rank of so many workers makes of a few tasks."""
    huge = spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"learning_rate": 1e30})})

    @cache
    def results(width: int) -> list[dict]:
        folder = home / f"width-{width}"
        tasks = {
            "fit": partial(fit, spec, cases, folder / "fit"),
            "multi-scale": partial(fit, multi_scale(spec), cases, folder / "multi-scale"),
            "resumed": partial(fit, spec, cases, folder / "resumed", stop_at=(0,)),
            "plain": partial(plain_fit, multi_scale(spec), cases, folder / "plain", micro_batch=1),
            "averaged": partial(fit, averaged(spec), cases, folder / "averaged", stop_at=(2,)),
            "parts": partial(fit, spec, cases, folder / "parts", micro_batch=4 // width),
            "released": partial(fit, released(spec), cases, folder / "released"),
            "adapted": partial(fit, adapted(spec), cases, folder / "adapted"),
            "huge": partial(fit, huge, cases, folder / "huge"),
            "uneven": partial(
                fit, drawn_fit(cases, num_train=9, batch_size=2 * width + 1), cases, folder / "uneven"
            ),
            "batch norm": shared_batch_norm,
        }
        return together(width, tasks, folder)

    return results


@pytest.mark.parametrize("width", WIDTHS)
def test_several_workers_learn_what_one_learns(group, alone, width):
    outcome = group(width)[0]["fit"]
    assert_learned_alike(outcome, alone)
    for name, value in alone.weights.items():
        torch.testing.assert_close(outcome.weights[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("width", WIDTHS)
def test_several_workers_exchange_gradients_of_an_encoder_from_its_release_on(
    group, spec, cases, home, width
):
    single = fit(released(spec), cases, home / f"released-{width}")
    outcome = group(width)[0]["released"]
    assert_learned_alike(outcome, single, rtol=1e-3)  # other processors add in another order
    for rank in range(1, width):
        other = group(width)[rank]["released"].weights
        assert all(torch.equal(value, other[name]) for name, value in outcome.weights.items())


@pytest.mark.parametrize("width", WIDTHS)
def test_several_workers_train_what_is_not_frozen_as_one_does(group, spec, cases, home, width):
    single = fit(adapted(spec), cases, home / f"adapted-{width}")
    outcome = group(width)[0]["adapted"]
    assert_learned_alike(outcome, single, rtol=1e-3)  # other processors add in another order
    for rank in range(1, width):
        other = group(width)[rank]["adapted"].weights
        assert all(torch.equal(value, other[name]) for name, value in outcome.weights.items())


@pytest.mark.parametrize("width", WIDTHS)
def test_several_workers_see_the_scales_that_one_sees(group, alone, spec, cases, home, width):
    single = fit(multi_scale(spec), cases, home / f"scales-{width}")
    assert learned(single) != learned(alone)
    assert_learned_alike(group(width)[0]["multi-scale"], single)


@pytest.mark.parametrize("width", WIDTHS)
def test_several_workers_average_the_weights_that_one_averages(group, spec, cases, home, width):
    single = fit(averaged(spec), cases, home / f"averaged-{width}")
    for rank in group(width):
        assert_learned_alike(rank["averaged"], single)
        for name, value in single.weights.items():
            torch.testing.assert_close(rank["averaged"].weights[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("width", WIDTHS)
def test_micro_batches_of_several_workers_learn_what_the_whole_batch_of_one_learns(
    group, spec, cases, home, width
):
    whole = plain_fit(multi_scale(spec), cases, home / f"plain-{width}")
    parts = group(width)[0]["plain"]
    assert_learned_alike(parts, whole)
    for name, value in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", WIDTHS)
def test_batch_norm_of_several_workers_sees_their_micro_batches_as_one(group, spec, cases, home, width):
    alone = fit(spec, cases, home / f"parts-{width}", micro_batch=4)
    assert_learned_alike(group(width)[0]["parts"], alone)


@pytest.mark.parametrize("width", WIDTHS)
def test_several_workers_score_every_case_as_one_does(group, alone, width):
    outcome = group(width)[0]["fit"]
    assert outcome.case_ids == alone.case_ids
    np.testing.assert_array_equal(outcome.histograms.sum(2), alone.histograms.sum(2))
    for threshold in (0.25, 0.5, 0.75):
        dice, expected = (scores_at(of.histograms, threshold)["dice"] for of in (outcome, alone))
        np.testing.assert_allclose(dice, expected, atol=0.01)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_rank_returns_the_same_outcome(group, width):
    first, *others = (rank["fit"] for rank in group(width))
    for other in others:
        assert other.curves == first.curves
        assert all(torch.equal(other.weights[name], first.weights[name]) for name in first.weights)
        np.testing.assert_array_equal(other.histograms, first.histograms)


@pytest.mark.parametrize("width", WIDTHS)
def test_workers_that_were_stopped_together_resume_as_if_undisturbed(group, width):
    """To the last bit where two add up; DDP lays out gradients anew after a first step, and so the order of four."""
    for rank in group(width):
        resumed, undisturbed = rank["resumed"], rank["fit"]
        np.testing.assert_allclose(learned(resumed), learned(undisturbed), rtol=0 if width == 2 else 1e-6)
        moved = np.cumsum(resumed.histograms.astype(int) - undisturbed.histograms, axis=2)
        assert np.abs(moved).max() <= (0 if width == 2 else 2)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_fit_that_diverges_fails_on_every_rank_alike(group, width):
    errors = [rank["huge"] for rank in group(width)]
    assert all(isinstance(error, FitFailed) for error in errors)
    assert len({str(error) for error in errors}) == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_a_batch_that_cannot_be_divided_is_refused_with_the_widths_that_would_do(group, width):
    would_do = {
        2: "5 cannot be split evenly over 2 workers; possible: [1, 5]",
        4: "9 cannot be split evenly over 4",
    }
    for rank in group(width):
        assert isinstance(rank["uneven"], BadMachine)
        assert would_do[width] in str(rank["uneven"])


@pytest.mark.parametrize("width", WIDTHS)
def test_shared_batch_norm_is_batch_norm_of_the_whole_batch(group, width):
    whole = batch_norm(nn.BatchNorm2d)
    for rank, result in enumerate(rank["batch norm"] for rank in group(width)):
        for name in ("normalized", "image grad"):
            torch.testing.assert_close(result[name], whole[name][rank::width], rtol=1e-4, atol=1e-5)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(result[name], whole[name])
    for name in ("weight grad", "bias grad"):
        total = sum(rank["batch norm"][name] for rank in group(width))
        torch.testing.assert_close(total, whole[name], rtol=1e-4, atol=1e-4)


def test_one_worker_is_a_group_of_its_own():
    assert (workers.rank(), workers.size()) == (0, 1)
    assert workers.gather("word") == ["word"]
    network = nn.Sequential(nn.BatchNorm2d(3))
    assert type(workers.share_batch_norm(network, 1, torch.device("cpu"))[0]) is nn.BatchNorm2d
