import pytest
from pydantic import ValidationError

from orchestrator.training.recipe import FitSpec, Recipe


def spec(**changes) -> FitSpec:
    configuration = {
        "network": "unet",
        "network_params": {"base_channels": 8},
        "recipe": Recipe(),
        "datasets": {"drawn": "f" * 32},
        "train": ("drawn/1",),
        "val": ("drawn/2",),
        "fold": "0",
    }
    return FitSpec(**configuration | changes)


def test_the_same_content_has_the_same_name():
    assert spec().fit_id == spec().fit_id


def test_a_fold_label_is_no_content():
    assert spec().fit_id == spec(fold="4").fit_id


@pytest.mark.parametrize(
    "change",
    [
        {"network": "resunet_pp"},
        {"network_params": {"base_channels": 16}},
        {"recipe": Recipe(learning_rate=2e-3)},
        {"recipe": Recipe(tta="flips")},
        {"recipe": Recipe(weight_averaging="swa")},
        {"datasets": {"drawn": "e" * 32}},
        {"train": ("drawn/3",)},
        {"val": ("drawn/3",)},
        {"version": 0},
    ],
)
def test_whatever_can_move_a_result_is_in_the_name(change):
    assert spec().fit_id != spec(**change).fit_id


def test_fits_without_averages_keep_the_names_from_before_there_were_any():
    assert spec(version=2).fit_id == "c38e3761e4577d606279"


@pytest.mark.parametrize(
    ("kind", "fields", "is_same"),
    [
        ("none", {"averaging_start": 0.5, "ema_decay": 0.9}, True),
        ("swa", {"ema_decay": 0.9}, True),
        ("swa", {"averaging_start": 0.5}, False),
        ("ema", {"ema_decay": 0.9}, False),
        ("ema", {"averaging_start": 0.5}, False),
    ],
)
def test_what_an_average_makes_no_use_of_is_not_in_the_name(kind, fields, is_same):
    one, other = Recipe(weight_averaging=kind), Recipe(weight_averaging=kind, **fields)
    assert (spec(recipe=one).fit_id == spec(recipe=other).fit_id) == is_same


@pytest.mark.parametrize(
    ("chosen", "fields", "is_same"),
    [
        ({}, {"momentum": 0.5, "nesterov": True}, True),
        ({"optimizer": "sgd"}, {"momentum": 0.5}, False),
        ({"optimizer": "sgd"}, {"nesterov": True}, False),
        ({"schedule": "poly"}, {"restart_period": 3, "restart_multiplier": 1}, True),
        ({"schedule": "warm_restarts"}, {"poly_power": 2.0}, True),
        ({"schedule": "warm_restarts"}, {"restart_period": 3}, False),
        ({"schedule": "poly"}, {"poly_power": 2.0}, False),
        ({"augmentation": "flips"}, {"augmentation_strength": 0.1}, True),
        ({"augmentation": "rand_augment"}, {"augmentation_strength": 0.1}, False),
    ],
)
def test_what_an_optimizer_or_a_schedule_makes_no_use_of_is_not_in_the_name(chosen, fields, is_same):
    one, other = Recipe(**chosen), Recipe(**chosen, **fields)
    assert (spec(recipe=one).fit_id == spec(recipe=other).fit_id) == is_same


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValidationError, match="nesterov needs momentum above 0, found 0"):
        Recipe(optimizer="sgd", momentum=0, nesterov=True)


def test_warmup_without_a_schedule_for_it_is_refused():
    with pytest.raises(ValidationError, match="warmup_epochs needs a schedule other than 'plateau'"):
        Recipe(schedule="plateau", warmup_epochs=2)
