"""What can be wrong in a file whose network is a choice, and of what size a network can be."""

from __future__ import annotations

import pytest

from orchestrator import models
from orchestrator.common.errors import BadSpace
from orchestrator.search.space.builds import WITH_ENCODER, _trains_encoder, check_builds
from orchestrator.search.space.space_file import parse_space

CHOICE = """
network = { choice = ["unet", "pranet"] }
[search]
learning_rate = { log_uniform = [1e-5, 1e-2] }
loss = { choice = ["dice", "bce"] }
[fixed]
image_size = 64
[baseline]
learning_rate = 1e-4
loss = "dice"
[unet.search]
base_channels = { choice = [4, 8] }
[unet.baseline]
base_channels = 8
[pranet.fixed]
pretrained = false
"""


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(BadSpace) as caught:
        parse_space(text)
    return caught.value.problems


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "[4, 8] }",
            '[4, 8], when = { network = ["pranet"] } }',
            "unet.search.base_channels.when.network: expected no condition on the network, because this table is that "
            "of unet alone, found 'pranet'",
        ),
        (
            "[fixed]",
            'width = { choice = [8, 16], when = { network = ["pra*"] } }\n[fixed]',
            "search.width.when.network: expected one of unet, pranet, found 'pra*'",
        ),
        (
            "[pranet.fixed]",
            "[unet.fixed]\nbase_channels = 8\n[pranet.fixed]",
            "unet.base_channels: expected in [unet.search] or in [unet.fixed], found in both",
        ),
        (
            "[pranet.fixed]",
            "[unet.fixed]\nloss = 'bce'\n[pranet.search]\nloss = { choice = ['bce', 'dice'] }\n[pranet.fixed]",
            "search.loss: every network has its own, so leave it out here",
        ),
        (
            "[unet.search]",
            "[unet.search]\nwidth = { choice = [8, 16] }",
            "unet.search.width: belongs to deeplabv3p_mobilenet",
        ),
        (
            "[unet.baseline]",
            "[unet.baseline]\nnetwork = 'unet'",
            "unet.baseline.network: expected in [baseline], found in [unet.baseline]",
        ),
        (
            "[fixed]\nimage_size = 64\n[baseline]\n",
            "momentum = { uniform = [0, 0.9], when = { base_channels = 8 } }\n[baseline]\nmomentum = 0.5\n",
            "search.momentum.when.base_channels: no searched parameter is named 'base_channels'; "
            "known: learning_rate, loss, momentum (for pranet)",
        ),
    ],
)
def test_a_mistake_has_one_line_that_says_where_it_is(old: str, new: str, expected: str):
    assert CHOICE.count(old) == 1
    (problem,) = problems(CHOICE.replace(old, new))
    assert problem.startswith(expected)


def test_a_condition_on_the_network_in_its_own_table_changes_nothing():
    with_condition = CHOICE.replace("[4, 8] }", '[4, 8], when = { network = ["pranet", "unet"] } }')
    assert parse_space(with_condition).digest == parse_space(CHOICE).digest


@pytest.mark.parametrize(
    ("first", "second"),
    [("optimizer = 'adam'", "optimizer = 'sgd', "), ("network = 'unet'", "network = 'pranet', ")],
)
def test_conditions_that_exclude_each_other_are_refused(first: str, second: str):
    text = CHOICE.partition("[unet.search]")[0].replace(
        'loss = { choice = ["dice", "bce"] }',
        f"optimizer = {{ choice = ['adam', 'sgd'] }}\nloss = {{ choice = ['dice', 'bce'], when = {{ {first} }} }}\n"
        f"momentum = {{ uniform = [0.1, 0.9], when = {{ {second}loss = 'dice' }} }}",
    )
    assert any(line.startswith("search.momentum.when: it can never be met") for line in problems(text))


def test_a_condition_on_two_others_that_can_hold_together_is_taken():
    text = CHOICE.replace(
        "[fixed]",
        "optimizer = { choice = ['adam', 'sgd'] }\n"
        "momentum = { uniform = [0.1, 0.9], when = { optimizer = 'sgd', loss = ['dice', 'bce'] } }\n[fixed]",
    )
    space = parse_space(text.replace("[unet.search]", "optimizer = 'sgd'\nmomentum = 0.9\n[unet.search]"))
    assert all(params["momentum"] == 0.9 for params in space.baselines)


@pytest.mark.parametrize(
    ("network", "key", "value", "expected"),
    [
        ("unet", "base_channels", 100_000, "must be a positive integer of at most 1,024, got 100,000"),
        (
            "unet",
            "base_channels",
            1024,
            "with base_channels = 1,024 it has 7.9 billion parameters to train, expected at most 5 billion.*"
            "by default base_channels = 64",
        ),
        ("gmsrf_net", "num_modules", 10_000, "of at most 16"),
        (
            "dino_decoder",
            "lora_rank",
            10_000,
            "lora_rank must be a positive integer of at most 384, got 10,000",
        ),
        ("encoder_decoder", "width", 65_536, "a positive multiple of 64 of at most 1,024"),
    ],
)
def test_a_network_that_nothing_could_train_is_refused(network: str, key: str, value: int, expected: str):
    with pytest.raises(BadSpace, match=f"{network}: .*{expected}"):
        check_builds(parse_space(f"network = '{network}'\nfixed.{key} = {value}"))


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_networks_that_are_named_for_their_encoders_train_these(name: str):
    assert _trains_encoder(models.build_without_values(name, pretrained=False))


def test_a_parameter_is_drawn_by_its_logarithm_where_all_networks_draw_it_so():
    space = parse_space("""
network = { choice = ["unet", "unet_mediaeval"] }
[search]
learning_rate = { log_uniform = [1e-4, 1e-2] }
weight_decay = { log_uniform = [1e-5, 1e-2] }
batch_size = { int = [2, 16], log = true }
[unet.search]
learning_rate = { log_uniform = [1e-3, 1e-1] }
weight_decay = { uniform = [0.0, 0.1] }
[fixed]
epochs = 3
[baseline]
learning_rate = 1e-3
weight_decay = 1e-4
batch_size = 4
[unet.baseline]
learning_rate = 1e-2
weight_decay = 0.0
""")
    assert space.log_scaled == {"learning_rate", "batch_size"}
