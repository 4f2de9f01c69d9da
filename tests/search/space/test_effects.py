from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.common.errors import BadSpace
from orchestrator.search.space.builds import check_builds
from orchestrator.search.space.effects import without_effect
from orchestrator.search.space.space_file import load_space, parse_space
from orchestrator.training.recipe import Recipe, acts_with

SHIPPED = sorted(Path("search_spaces").glob("*.toml"))
FITS = {
    "momentum": 'optimizer = "sgd"',
    "ema_decay": 'weight_averaging = "ema"',
    "poly_power": 'schedule = "poly"',
}
FITS |= {"augmentation_strength": 'augmentation = "rand_augment"'}


def space(search: str, baseline: str, fixed: str = "", network: str = "unet"):
    return parse_space(f'network = "{network}"\n[search]\n{search}\n[fixed]\n{fixed}\n[baseline]\n{baseline}')


@pytest.mark.parametrize("name", FITS)
def test_a_searched_parameter_that_nothing_uses_is_said_and_one_that_is_used_is_not(name):
    search, baseline = f"{name} = {{ uniform = [0.5, 0.9] }}", f"{name} = 0.8"
    (said,) = without_effect(space(search, baseline))
    assert said.startswith(f"search.{name} has no effect where") and said.endswith(
        FITS[name].replace('"', "'")
    )
    assert not without_effect(space(search, baseline, FITS[name]))


def test_a_parameter_that_is_drawn_where_it_has_no_effect_is_said_with_the_condition_that_mends_it():
    optimizer = 'optimizer = { choice = ["adam", "sgd"] }\nmomentum = { uniform = [0.5, 0.9]%s }'
    baseline = 'optimizer = "sgd"\nmomentum = 0.9'
    (said,) = without_effect(space(optimizer % "", baseline))
    condition = "when = { optimizer = ['sgd'] }"
    assert said.startswith("search.momentum has no effect where optimizer is 'adam'") and condition in said
    assert not without_effect(space(optimizer % f", {condition}", baseline))


def test_a_fixed_value_that_nothing_uses_is_said():
    (said,) = without_effect(space("", "", "restart_period = 5"))
    assert said.startswith("fixed.restart_period has no effect where schedule is 'cosine'")
    assert not without_effect(space("", "", 'plateau_patience = 5\nschedule = "plateau"'))


def test_freezing_an_encoder_that_is_held_all_along_is_said():
    (said,) = without_effect(
        space("freeze_epochs = { int = [1, 3] }", "freeze_epochs = 1", "encoder_learning_rate_factor = 0.0")
    )
    assert said.startswith("search.freeze_epochs has no effect where encoder_learning_rate_factor is 0")


def test_own_tables_of_a_network_are_told_by_its_name():
    both = 'network = { choice = ["unet", "resunet"] }\n[unet.fixed]\nmomentum = 0.5\n[baseline]\nnetwork = "unet"'
    (said,) = without_effect(parse_space(both))
    assert said.startswith("unet: fixed.momentum has no effect")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_in_a_shipped_space_everything_has_an_effect(file):
    assert not without_effect(load_space(file))


def test_a_recipe_knows_its_idle_fields():
    assert "momentum" in Recipe().idle and "momentum" not in Recipe(optimizer="sgd").idle
    assert {"learning_rate", "seed"}.isdisjoint(Recipe().idle)
    assert all(name in Recipe.model_fields for name in Recipe().idle) and acts_with("momentum")


@pytest.mark.parametrize(
    ("network", "fixed", "is_refused"),
    [
        ("sam2_unet", 'encoder = "tiny"', True),
        ("dino_decoder", 'encoder = "vit_tiny_patch16_224"', True),
        ("dino_decoder", 'encoder = "vit_tiny_patch16_224"\nadaptation = "lora"', True),
        ("dino_decoder", 'encoder = "vit_tiny_patch16_224"\nadaptation = "full"', False),
    ],
)
def test_a_rate_for_an_encoder_that_is_frozen_is_refused(network, fixed, is_refused):
    asked = space("", "", f"{fixed}\nencoder_learning_rate_factor = 0.1", network)
    if is_refused:
        with pytest.raises(BadSpace, match=r"encoder_learning_rate_factor: the encoder of .* is frozen"):
            check_builds(asked)
    else:
        check_builds(asked)
