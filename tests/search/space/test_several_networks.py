"""Spaces over several networks, each with tables of its own."""

from __future__ import annotations

import pickle
from pathlib import Path

import optuna
import pytest
from optuna.trial import FixedTrial

from orchestrator.common.errors import BadSpace, Several
from orchestrator.search.space.builds import override
from orchestrator.search.space.combine import combined
from orchestrator.search.space.space import checked_before
from orchestrator.search.space.space_file import load_space, parse_space

CHOICE = """
network = { choice = ["unet", "resunet_pp", "colonsegnet"] }
[search]
learning_rate = { log_uniform = [1e-5, 1e-2] }
loss = { choice = ["dice", "bce_dice"] }
[fixed]
epochs = 3
image_size = 64
batch_size = 4
[baseline]
learning_rate = 1e-4
loss = "dice"
[unet.search]
base_channels = { choice = [4, 8] }
[unet.baseline]
base_channels = 8
[resunet_pp.search]
learning_rate = { log_uniform = [1e-4, 1e-1] }
[resunet_pp.fixed]
base_channels = 8
batch_size = 8
[resunet_pp.baseline]
learning_rate = 1e-3
[colonsegnet.search]
threshold = { uniform = [0.2, 0.6] }
[colonsegnet.baseline]
threshold = 0.5
loss = "bce_dice"
"""
SEVERAL = parse_space(CHOICE)
ALONE = """
network = "resunet_pp"
search.learning_rate = { log_uniform = [1e-4, 1e-1] }
search.loss = { choice = ["dice", "bce_dice"] }
baseline = { learning_rate = 1e-3, loss = "dice" }
fixed = { epochs = 3, image_size = 64, batch_size = 8, base_channels = 8 }
"""


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(BadSpace) as caught:
        parse_space(text)
    return caught.value.problems


def test_a_trial_has_the_parameters_of_its_network_alone():
    own = {"unet": {"base_channels"}, "resunet_pp": set(), "colonsegnet": {"threshold"}}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for trial in (study.ask() for _ in range(20)):
        params = SEVERAL.sample(trial)
        network = params["network"]
        assert set(SEVERAL.shown(trial.params)) == {"network", "learning_rate", "loss"} | own[network]
        rate = "resunet_pp.learning_rate" if network == "resunet_pp" else "learning_rate"
        assert trial.params[rate] == params["learning_rate"] and SEVERAL.stored(params) == trial.params
        assert params["batch_size"] == (8 if network == "resunet_pp" else 4)


def test_a_network_of_a_choice_is_trained_as_in_a_file_of_its_own():
    alone = parse_space(ALONE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        params = alone.sample(trial := study.ask())
        stored = SEVERAL.stored(params)
        assert stored.keys() != trial.params.keys()
        found = SEVERAL.sample(FixedTrial(stored))
        assert SEVERAL.configuration(found) == alone.configuration(params)


def test_the_first_trials_are_the_baselines_of_all_networks():
    assert SEVERAL.baselines == (
        {"network": "unet", "learning_rate": 1e-4, "loss": "dice", "unet.base_channels": 8},
        {"network": "resunet_pp", "loss": "dice", "resunet_pp.learning_rate": 1e-3},
        {"network": "colonsegnet", "learning_rate": 1e-4, "loss": "bce_dice", "colonsegnet.threshold": 0.5},
    )
    other = parse_space(CHOICE.replace('loss = "dice"\n', 'loss = "dice"\nnetwork = "colonsegnet"\n'))
    assert [one["network"] for one in other.baselines] == ["colonsegnet", "unet", "resunet_pp"]
    assert other.baseline_params()["threshold"] == 0.5


def test_a_sweep_is_that_of_the_network():
    masks = [SEVERAL.configuration(SEVERAL.baseline_params(name)).masks for name in SEVERAL.networks]
    assert [one.threshold for one in masks] == [None, None, 0.5]


def test_a_space_of_several_networks_is_read_again_as_it_was():
    assert checked_before(CHOICE, Path("space.toml")).digest == SEVERAL.digest
    assert pickle.loads(pickle.dumps(SEVERAL)) == SEVERAL
    for old, new in (("batch_size = 8", "batch_size = 2"), ("learning_rate = 1e-3", "learning_rate = 1e-2")):
        assert parse_space(CHOICE.replace(old, new)).digest != SEVERAL.digest


def test_another_network_comes_with_its_own_baseline():
    changed = override(SEVERAL.baseline_params(), ["network=resunet_pp", "loss=bce_dice"], SEVERAL)
    assert (changed["learning_rate"], changed["batch_size"], changed["loss"]) == (1e-3, 8, "bce_dice")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "epochs = 3\n",
            "epochs = 3\npyramid = 'aspp'\n",
            "no such parameter; it belongs in [resunet_pp.fixed]",
        ),
        ("[fixed]\nepochs", "[fixed]\nwidth = 8\nepochs", "fixed.width: belongs to "),
        ("[unet.search]\n", "[unet.search]\nepohs = { int = [1, 2] }\n", "unet.search.epohs: no parameter"),
        ("[unet.search]", "[unte.search]", "no table is named 'unte'; did you mean unet?"),
        ("[unet.search]", "[pranet.search]", "pranet: network does not name pranet; add it there, or leave"),
        ("[unet.search]", "[unet.serch]", "unet: no table is named 'serch'; did you mean search?"),
        (
            "base_channels = 8\n[res",
            "[res",
            "unet.baseline.base_channels: expected the value to try first",
        ),
        (
            "learning_rate = 1e-3",
            "learning_rate = 1.0",
            "resunet_pp.baseline.learning_rate: expected 0.0001 to",
        ),
        (
            "image_size = 64",
            "image_size = 40",
            "fixed.image_size: unet needs multiples of 16 pixels, found 40",
        ),
        (
            "batch_size = 8",
            "batch_size = 8\nimage_size = 70",
            "resunet_pp.fixed.image_size: resunet_pp needs",
        ),
        ('loss = "dice"\n', 'loss = "dice"\nnetwork = "pranet"\n', "baseline.network: expected one of unet"),
        ("learning_rate = 1e-4\n", "", "baseline.learning_rate: expected the value to try first"),
        ("epochs = 3\n", "epochs = 3\nwarmup_epochs = 3\n", "needs to be below epochs = 3, found 3"),
        (
            "[unet.baseline]\n",
            "[unet.baseline]\nthreshold = 0.5\n",
            "unet.baseline.threshold: threshold is not",
        ),
        (
            "[unet.search]\n",
            "[unet.fixed]\nnetwork = 'unet'\n[unet.search]\n",
            "unet.fixed.network: expected at",
        ),
    ],
)
def test_mistakes_in_the_tables_of_a_network_name_their_table(old, new, expected):
    assert CHOICE.count(old) == 1
    found = problems(CHOICE.replace(old, new))
    assert any(expected in one for one in found)


def test_all_mistakes_of_several_networks_are_reported_at_once():
    text = CHOICE.replace("image_size = 64", "image_size = 40").replace("base_channels = 8\n[res", "[res")
    lines = problems(text.replace("learning_rate = 1e-3", "learning_rate = 1.0"))
    assert len(lines) == 3 and sum("image_size: unet needs" in line for line in lines) == 1


def test_several_files_become_one_space_whose_networks_are_as_in_their_files():
    space = parse_space(combined([Path("unet"), Path("pranet"), Path("colonsegnet")]))
    assert space.networks == ("unet", "pranet", "colonsegnet")
    for network in space.networks:
        alone = load_space(Path(network))
        params = alone.baseline_params()
        assert space.baseline_params(network) == params
        assert space.of(network).search == alone.search
        assert space.configuration(params) == alone.configuration(params)


def test_files_that_cannot_be_combined_are_all_named():
    with pytest.raises(Several) as caught:
        combined([Path("unet"), Path("unet"), Path("unte")])
    assert "found unet again" in str(caught.value) and "did you mean unet" in str(caught.value)


OWN_NETWORK = """
from torch import nn
from orchestrator.models import register

@register(stride=4)
def small(*, width: int = 8):
    return nn.Conv2d(3, 1, 1)
"""


def test_a_network_of_the_users_own_has_tables_too(tmp_path: Path):
    (tmp_path / "mine.py").write_text(OWN_NETWORK)
    text = CHOICE.replace('"colonsegnet"]', '"mine:small"]').split("[colonsegnet")[0]
    own = '["mine:small".search]\nwidth = { choice = [4, 8] }\n["mine:small".baseline]\nwidth = 4\n'
    (tmp_path / "space.toml").write_text(text + own)
    space = load_space(tmp_path / "space.toml")
    (name,) = (one for one in space.networks if one.startswith("mine:small#"))
    last = space.baselines[-1]
    assert last == {"network": name, "learning_rate": 1e-4, "loss": "dice", f"{name}.width": 4}
    assert space.configuration(space.sample(FixedTrial(last))).network_params == {"width": 4}
    assert space.shown(last)["width"] == 4
