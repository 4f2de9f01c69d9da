import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from drawn import CPU, drawn_cases, drawn_fit, learned, train

from orchestrator import models
from orchestrator.common.errors import BadMachine, FitFailed
from orchestrator.data.resize import resize_probability
from orchestrator.scoring.histograms import histogram
from orchestrator.training.batches import ValidationBatches
from orchestrator.training.checkpoint import WrongCheckpoint
from orchestrator.training.fit import FitOutcome
from orchestrator.training.losses.registry import segmentation_loss
from orchestrator.training.optimization.precision import Precision
from orchestrator.training.recipe import FitSpec
from orchestrator.training.validation.scores import loss_as_trained, score_cases


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


@pytest.fixture(scope="module")
def spec(cases) -> FitSpec:
    return drawn_fit(cases)


@pytest.fixture(scope="module")
def outcome(spec, cases, tmp_path_factory) -> FitOutcome:
    return train(spec, cases, tmp_path_factory.mktemp("fit"))


def assert_same(one: FitOutcome, other: FitOutcome) -> None:
    assert learned(one) == learned(other)
    assert one.best_epoch == other.best_epoch
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    np.testing.assert_array_equal(one.histograms, other.histograms)
    np.testing.assert_equal(one.followed, other.followed)


def test_four_drawn_polyps_are_learned_by_heart(cases, tmp_path):
    spec = drawn_fit(cases, num_train=4, epochs=12, augmentation="none")
    by_heart = spec.model_copy(
        update={"train": spec.train * 8, "val": spec.train, "network_params": {"base_channels": 8}}
    )
    outcome = train(by_heart, cases, tmp_path)
    assert outcome.curves[-1]["train_loss"] < 0.5 * outcome.curves[0]["train_loss"]
    assert outcome.curves[-1]["val_dice"] > 0.9


STOPPED_EARLY = {"epochs": 30, "patience": 2, "learning_rate": 1e-4}


@pytest.mark.parametrize(
    "recipe",
    [
        {"epochs": 5, "schedule": "cosine", "warmup_epochs": 2},
        pytest.param(
            {"epochs": 5, "schedule": "plateau", "plateau_patience": 1, "learning_rate": 1e-4},
            marks=pytest.mark.slow,
        ),
        {"epochs": 5, "schedule": "constant", "precision": "bf16"},
        {"epochs": 5, "batch_size": 2, "scales": (0.5, 1.0, 1.5), "augmentation": "resunet_pp"},
        STOPPED_EARLY,
        {"epochs": 5, "optimizer": "nadam", "schedule": "warm_restarts", "restart_period": 2},
        pytest.param(
            {"epochs": 5, "optimizer": "sgd", "nesterov": True, "schedule": "poly"}, marks=pytest.mark.slow
        ),
        pytest.param({"epochs": 4, "optimizer": "lion", "learning_rate": 1e-4}, marks=pytest.mark.slow),
        {"epochs": 4, "optimizer": "muon"},
    ],
    ids=[
        "cosine",
        "plateau",
        "bf16",
        "multi-scale",
        "early stopping",
        "nadam, restarts",
        "sgd, poly",
        "lion",
        "muon",
    ],
)
def test_a_fit_that_was_stopped_and_resumed_ends_like_an_undisturbed_one(cases, tmp_path, recipe):
    spec = drawn_fit(cases, **recipe)
    undisturbed = train(spec, cases, tmp_path / "undisturbed")
    parts = tmp_path / "parts"
    for stop in (0, 2):
        assert train(spec, cases, parts, report=lambda row, stop=stop: row["epoch"] < stop) is None
    assert_same(train(spec, cases, parts), undisturbed)


def still(cases, folder, **recipe) -> dict[str, torch.Tensor]:
    """Weights after a fit whose gradients are clipped to nothing."""
    kept = {"epochs": 1, "schedule": "constant", "clip_norm": 1e-12, "weight_decay": 0.0}
    return {
        name: value
        for name, value in train(drawn_fit(cases, **kept | recipe), cases, folder).weights.items()
        if name.endswith("weight")
    }


def test_a_gradient_is_clipped_to_its_largest_norm(cases, tmp_path):
    slow = still(cases, tmp_path / "slow", learning_rate=1e-6)
    fast = still(cases, tmp_path / "fast", learning_rate=0.1)
    assert all(torch.allclose(slow[name], fast[name], atol=1e-4) for name in slow)


def test_weights_decay_by_rate_and_decay_at_every_step(cases, tmp_path):
    before = still(cases, tmp_path / "before", learning_rate=0.1)
    after = still(cases, tmp_path / "after", learning_rate=0.1, weight_decay=0.5)
    shares = {name: float(after[name].norm() / before[name].norm()) for name in before}
    assert all(0.1 < share < 0.96 for share in shares.values()), shares
    assert max(shares.values()) == pytest.approx(min(shares.values()), rel=0.01)


def test_a_network_with_dropout_resumes_like_an_undisturbed_one(cases, tmp_path):
    update = {"network": "unet_pp", "network_params": {"base_channels": 4, "dropout": 0.5}}
    spec = drawn_fit(cases, epochs=4).model_copy(update=update)
    undisturbed = train(spec, cases, tmp_path / "undisturbed")
    parts = tmp_path / "parts"
    assert train(spec, cases, parts, report=lambda row: row["epoch"] < 1) is None
    torch.rand(7)  # another process would find its generator anywhere
    assert_same(train(spec, cases, parts), undisturbed)


def test_a_fit_that_died_while_it_was_scored_trains_no_further(cases, spec, outcome, tmp_path):
    train(spec, cases, tmp_path)
    told = []
    assert_same(train(spec, cases, tmp_path, report=lambda row: told.append(row) is None), outcome)
    assert [row["epoch"] for row in told] == list(range(spec.recipe.epochs))  # those of the checkpoint


def test_early_stopping_ends_when_nothing_got_better_for_so_many_epochs(cases, tmp_path):
    outcome = train(drawn_fit(cases, **STOPPED_EARLY), cases, tmp_path)
    assert len(outcome.curves) < 30
    assert len(outcome.curves) - 1 - outcome.best_epoch == 2


def test_warm_up_rises_from_a_tenth_and_cosine_falls_to_zero(cases, tmp_path):
    spec = drawn_fit(cases, epochs=6, warmup_epochs=2, learning_rate=1e-3)
    rates = [row["learning_rate"] for row in train(spec, cases, tmp_path).curves]
    assert rates[:3] == pytest.approx([1e-4, 5.5e-4, 1e-3])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] < 2e-4


def test_the_same_seed_gives_the_same_fit(cases, spec, outcome, tmp_path):
    assert_same(train(spec, cases, tmp_path), outcome)


def test_another_seed_gives_another_fit(cases, outcome, tmp_path):
    other = train(drawn_fit(cases, seed=1), cases, tmp_path)
    assert learned(other)[0] != learned(outcome)[0]


def test_the_best_epochs_weights_are_the_ones_that_are_scored(cases, spec, outcome):
    assert outcome.curves[outcome.best_epoch]["val_dice"] == max(row["val_dice"] for row in outcome.curves)
    network = models.build(spec.network, **spec.network_params)
    network.load_state_dict(outcome.weights)
    np.testing.assert_array_equal(score_cases(network, cases, spec.val, CPU, spec), outcome.histograms)


def test_histograms_are_those_of_predicting_case_by_case_at_the_masks_own_size(cases, spec, outcome):
    network = models.build(spec.network, **spec.network_params)
    network.load_state_dict(outcome.weights)
    network.eval()
    for case_id, scored in zip(outcome.case_ids, outcome.histograms, strict=True):
        image = torch.from_numpy(cases.image(case_id)).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            probability = network(image)[0].sigmoid()[0, 0].numpy()
        truth = cases.original_mask(case_id)
        by_hand = histogram(resize_probability(probability, *truth.shape), truth)
        # Convolutions of one image and of eight may differ in the last bit, and so in the bin of a pixel.
        assert scored.sum() == truth.size
        assert np.abs(np.cumsum(scored.astype(int) - by_hand, axis=1)).max() <= 2


def test_validation_batches_keep_the_order_of_the_cases_when_these_do_not_divide(cases):
    ids = [case.id for case in cases.datasets[0].cases[:7]]
    batches = list(ValidationBatches(cases, ids, 3, CPU))
    assert [len(image) for image, _ in batches] == [3, 3, 1]
    masks = torch.cat([mask for _, mask in batches])[:, 0].numpy()
    np.testing.assert_array_equal(masks, [cases.mask(case_id) for case_id in ids])


def test_a_refit_has_no_validation_and_keeps_the_weights_of_its_last_epoch(cases, tmp_path):
    spec = drawn_fit(cases, num_val=0, epochs=6).model_copy(update={"stop_after": 3})
    outcome = train(spec, cases, tmp_path / "refit")
    assert (len(outcome.curves), outcome.best_epoch) == (3, 2)
    assert (outcome.case_ids, outcome.histograms.shape) == ((), (0, 2, 256))
    parts = tmp_path / "parts"
    train(spec, cases, parts, report=lambda row: False)
    resumed = train(spec, cases, parts)
    assert all(torch.equal(resumed.weights[name], outcome.weights[name]) for name in outcome.weights)


def test_a_refit_follows_the_schedule_of_the_whole_recipe(cases, tmp_path):
    spec = drawn_fit(cases, num_val=0, epochs=100).model_copy(update={"stop_after": 2})
    rates = [row["learning_rate"] for row in train(spec, cases, tmp_path).curves]
    assert rates[1] > 0.99 * rates[0]


def test_a_batch_larger_than_the_fold_is_refused(cases, tmp_path):
    with pytest.raises(BadMachine, match="at most the 8 training cases of the fold, got 16"):
        train(drawn_fit(cases, batch_size=16), cases, tmp_path)


def test_half_precision_without_a_gpu_is_refused():
    with pytest.raises(BadMachine, match="fp16 needs a GPU"):
        Precision("fp16", CPU)


@pytest.mark.parametrize("num_val", [5, 0], ids=["fold", "refit"])
def test_a_fit_that_diverges_fails_and_names_the_epoch_and_the_rate(cases, tmp_path, num_val):
    # One step an epoch: its loss is still a number, the weights after it are not.
    spec = drawn_fit(cases, num_val=num_val, batch_size=8, precision="fp32")
    huge = spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"learning_rate": 1e30})})
    with pytest.raises(FitFailed, match=r"became nan in epoch \d+ at learning rate \S+e\+\d\d"):
        train(huge, cases, tmp_path)


def test_the_folder_of_another_fit_is_refused(cases, spec, tmp_path):
    train(spec, cases, tmp_path, report=lambda row: False)
    with pytest.raises(WrongCheckpoint, match="belongs to fit"):
        train(drawn_fit(cases, seed=1), cases, tmp_path)


def test_report_is_told_every_epoch_once_in_order(cases, spec, tmp_path):
    told = []
    train(spec, cases, tmp_path, report=lambda row: told.append(row) is None)
    assert [row["epoch"] for row in told] == list(range(spec.recipe.epochs))
    assert all(row["images_per_second"] > 0 and row["seconds"] > 0 for row in told)


def test_filters_act_on_maps_before_pixels_are_counted(cases, spec):
    torch.manual_seed(0)
    network = models.build(spec.network, **spec.network_params)
    plain = score_cases(network, cases, spec.val, CPU, spec)
    dropped = score_cases(network, cases, spec.val, CPU, spec.model_copy(update={"min_component_area": 1.0}))
    assert plain.sum() == dropped.sum()  # every pixel is still counted
    # No component but the lowest level's is as large as the frame: what stands out is cut down to it.
    assert (dropped * np.arange(256)).sum() < (plain * np.arange(256)).sum()
    assert (dropped.sum(axis=1) > 0).sum(axis=1).tolist() == [1] * len(dropped)


def by_hand(outcome: FitOutcome, spec: FitSpec, cases) -> float:
    """The loss of the last epoch's network on the validation cases, one at a time."""
    network = models.build(spec.network, **spec.network_params)
    network.load_state_dict(outcome.weights)
    network.eval()
    loss_of = segmentation_loss(spec.recipe.loss, models.supervision(network))
    with torch.inference_mode():
        batches = [*ValidationBatches(cases, spec.val, 1, CPU)]
        return float(torch.stack([loss_of(network(image), mask) for image, mask in batches]).mean())


def test_the_loss_is_validated_as_it_is_trained(cases, tmp_path):
    spec = drawn_fit(cases, epochs=1, loss="bce_dice")
    outcome = train(spec, cases, tmp_path)
    assert outcome.curves[0]["val_loss"] == pytest.approx(by_hand(outcome, spec, cases), rel=1e-5)


def test_a_network_with_other_outputs_in_evaluation_has_no_validated_loss():
    loss_of = segmentation_loss("bce", (models.Supervision(), models.Supervision(weight=0.5)))
    output, mask = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    assert float(loss_as_trained(loss_of, (output, output), mask, 2)) == pytest.approx(1.5 * math.log(2))
    assert math.isnan(loss_as_trained(loss_of, (output,), mask, 2))
    assert math.isnan(loss_as_trained(loss_of, (output, output[..., :4]), mask, 2))


def test_two_cases_with_a_polyp_are_followed_from_the_first_epoch_to_the_last(cases, outcome, spec):
    assert outcome.followed["epochs"].tolist() == [0, 1, 2, 3]
    shown = outcome.followed.keys() - {"epochs"}
    assert len(shown) == 2 and shown <= {*spec.val} and all(cases.mask(case_id).any() for case_id in shown)
    maps = [outcome.followed[case_id] for case_id in shown]
    assert all(one.shape == (4, 32, 32) and one.dtype == np.uint8 for one in maps)
    assert all((one[0] != one[-1]).any() for one in maps)
