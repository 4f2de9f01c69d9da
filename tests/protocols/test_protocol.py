from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import models
from orchestrator.common.errors import BadData, BadMachine, BadSpace, UserError
from orchestrator.protocols.datasets import known_datasets
from orchestrator.protocols.fits import (
    Wishes,
    check_weights,
    chosen_rows,
    configure,
    plan_rows,
    refuse_unused_weights,
)
from orchestrator.protocols.protocol import load_protocol, names

PAPERS = ("attention-unet", "gmsrf", "mediaeval-depthwise", "parallel-res2net", "resunetpp")


def test_all_five_papers_are_there():
    assert names() == PAPERS


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("scale", ["smoke", "small", "full"])
def test_every_row_makes_a_recipe_that_its_network_takes(paper, scale):
    protocol = load_protocol(paper)
    for name, row in protocol.rows.items():
        configuration = configure(protocol, name, row, protocol.scale(scale), Wishes())
        assert configuration.recipe.image_size % models.stride(configuration.network) == 0
        assert configuration.network_params.keys() <= models.params(configuration.network).keys()


@pytest.mark.parametrize("paper", PAPERS)
def test_every_table_names_datasets_that_are_known(paper):
    protocol = load_protocol(paper)
    assert {name for table in protocol.tables.values() for name in table.datasets} <= known_datasets().keys()


def test_full_scale_is_the_recipe_of_the_paper():
    protocol = load_protocol("gmsrf")
    recipe = configure(
        protocol, "GMSRF-Net", protocol.rows["GMSRF-Net"], protocol.scale("full"), Wishes()
    ).recipe
    assert (recipe.image_size, recipe.epochs, recipe.batch_size) == (256, 50, 8)
    assert (recipe.optimizer, recipe.learning_rate, recipe.loss) == ("adam", 1e-4, "structure")


def test_published_numbers_are_those_of_the_paper():
    table = load_protocol("gmsrf").table("I")
    assert table.number("MSRF-Net", "CVC-ClinicDB", 0) == 0.7921
    assert table.number("U-Net", "Kvasir-SEG", 3) == 0.8901
    assert load_protocol("mediaeval-depthwise").table("2").number("Unet", "network", 0) == 3_588_997
    assert load_protocol("resunetpp").table("II").number("ResUNet", "CVC-ClinicDB", 0) == 0.4510


def test_eleven_competitors_stand_in_both_directions():
    protocol = load_protocol("gmsrf")
    for table in (protocol.table("I"), protocol.table("ii")):
        assert len(protocol.rows_of(table)) == len(table.published) == 12


def test_other_spellings_of_a_paper_are_taken_and_a_typing_error_is_answered():
    assert load_protocol("ResUNet++").name == "resunetpp"
    with pytest.raises(BadData, match=r"did you mean.*gmsrf"):
        load_protocol("gmrsf")


def test_a_protocol_file_with_wrong_numbers_is_refused_with_their_place(tmp_path: Path):
    file = tmp_path / "own.toml"
    file.write_text(
        'title = "t"\ncitation = "c"\nrecipe = { image_size = 32, epochs = 1 }\nrows = { a = { space = "unet" } }\n'
        '[tables.1]\ncaption = "c"\ntests = [{ name = "x" }]\ncolumns = [{ name = "D", score = "dice_image" }]\n'
        "[tables.1.published.a]\nx = [0.5, 0.5]\n"
    )
    with pytest.raises(BadData, match=r"published\.a\.x: not a test set, or not 1 numbers"):
        load_protocol(str(file))


def test_only_takes_rows_and_networks_and_also_adds_one():
    protocol = load_protocol("gmsrf")
    table = protocol.table("I")
    found = chosen_rows(protocol, table, Wishes(only=("u-net", "pranet"), also=("resunet_pp",)))
    assert list(found) == ["U-Net", "PraNet", "resunet_pp (beyond the paper)"]
    with pytest.raises(BadSpace, match=r"no row is named vnet; did you mean U-Net\? rows: U-Net, "):
        chosen_rows(protocol, table, Wishes(only=("vnet",)))


def test_a_table_is_found_by_either_numeral():
    assert load_protocol("gmsrf").table("1") == load_protocol("gmsrf").table("Table I")
    assert load_protocol("parallel-res2net").table("ii") == load_protocol("parallel-res2net").table("2")


def test_a_network_that_is_added_and_does_not_exist_is_refused_with_the_nearest():
    protocol = load_protocol("gmsrf")
    with pytest.raises(BadSpace, match=r"--also: no network is named unett; did you mean unet\?"):
        chosen_rows(protocol, protocol.table("I"), Wishes(also=("unett",)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('network = "unet"\n[search]\n', "expected a protocol, with rows and tables, found a search space"),
        ('titel = "t"\n', "title: expected, found none.*titel: no key of a protocol has this name"),
    ],
)
def test_a_file_that_is_no_protocol_is_refused_in_words(tmp_path: Path, text: str, told: str):
    (tmp_path / "my.toml").write_text(text)
    with pytest.raises(BadData, match=f"(?s){told}"):
        load_protocol(str(tmp_path / "my.toml"))
    with pytest.raises(BadData, match="found no file"):
        load_protocol(str(tmp_path / "other.toml"))


def test_weights_are_for_the_network_that_takes_them():
    protocol = load_protocol("attention-unet")
    wishes = Wishes(weights={"attention_unet": "/w/unet.pt"})
    row = protocol.rows["Attention U-Net"]
    made = configure(protocol, "Attention U-Net", row, protocol.scale("smoke"), wishes)
    assert made.network_params["weights"] == "/w/unet.pt"


def test_one_row_alone_may_start_from_imagenet():
    protocol = load_protocol("gmsrf")
    wishes, scale = Wishes(weights={"PraNet": "imagenet"}), protocol.scale("smoke")
    made = {
        name: configure(protocol, name, protocol.rows[name], scale, wishes)
        for name in ("PraNet", "UACANet-S")
    }
    assert made["PraNet"].network_params["pretrained"] is True
    assert made["UACANet-S"].network_params["pretrained"] is False


def test_weights_that_cannot_be_read_are_reported_before_anything_is_trained(tmp_path: Path):
    (tmp_path / "unet.pt").write_bytes(b"no weights")
    protocol = load_protocol("attention-unet")
    wishes = Wishes(weights={"Attention U-Net": str(tmp_path / "unet.pt")})
    rows = plan_rows(protocol, protocol.table("1"), protocol.scale("smoke"), wishes, None)
    with pytest.raises(BadMachine, match=r"Attention U-Net: .*--random"):
        check_weights(rows)


def mistaken(tmp_path: Path, old: str, new: str) -> Path:
    """A protocol file of a user's own with one thing changed."""
    text = (
        'title = "t"\ncitation = "c"\n[recipe]\nepochs = 2\n[rows]\na = { space = "unet_narrow" }\n[tables.main]\n'
        'caption = "c"\ntrain = "kvasir"\ntests = [{ name = "kvasir", part = "test" }]\n'
        'columns = [{ name = "D", score = "dice_image" }]\n[tables.main.published.a]\nkvasir = [0.5]\n'
    )
    assert old in text
    (tmp_path / "own.toml").write_text(text.replace(old, new))
    return tmp_path / "own.toml"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("epochs = 2", "lerning_rate = 1", "row a: lerning_rate: no parameter .* did you mean learning_rate"),
        ("epochs = 2", 'epochs = "two"', "epochs: expected a valid integer, found 'two'"),
        ("epochs = 2", "image_size = 33", "image_size: unet needs multiples of 16 pixels"),
        ('narrow" }', 'narrow", params = { widht = 3 } }', "no parameter is named 'widht'"),
        ('narrow" }', 'narrow", recipe = { widht = 3 } }', "no parameter is named 'widht'"),
        ("unet_narrow", "which_network", "has 8 networks, but a row is one: unet, "),
        ("[rows]", "[scales.smoke.rows]\na = { epoch = 1 }\n[rows]", "did you mean epochs"),
    ],
)
def test_what_a_row_of_an_own_protocol_gets_wrong_is_reported(tmp_path: Path, old: str, new: str, told: str):
    protocol = load_protocol(str(mistaken(tmp_path, old, new)))
    with pytest.raises(UserError, match=told):
        plan_rows(protocol, protocol.table("main"), protocol.scale("smoke"), Wishes(), None)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[rows]", "[scales.smoke]\nepoch = 1\n[rows]", r"scales\.smoke\.epoch"),
        ("[rows]", "[scales.smoke.rows]\nb = { epochs = 1 }\n[rows]", "no row is named b"),
        ("tests = [", 'tests = [{ name = "kvasir" }, ', "two test sets have this name"),
        ('train = "kvasir"\n', "", "nothing is trained, so nothing is scored"),
        ('train = "kvasir"', 'train = "kvasir"\nsplit = "80/20"', "has no test part"),
        ('train = "kvasir"', 'train = "other"', "a test part is of other, which is trained on; found kvasir"),
        ('part = "test"', 'part = "none"', "has no images, so no D"),
    ],
)
def test_a_table_of_an_own_protocol_that_cannot_be_scored_is_refused(
    tmp_path: Path, old: str, new: str, told: str
):
    with pytest.raises(BadData, match=told):
        load_protocol(str(mistaken(tmp_path, old, new)))


def test_a_table_of_an_own_protocol_has_any_name_and_what_it_leaves_out_is_the_space_files(tmp_path: Path):
    protocol = load_protocol(str(mistaken(tmp_path, "epochs = 2\n", "")))
    (row,) = plan_rows(protocol, protocol.table("MAIN"), protocol.scale("smoke"), Wishes(), None)
    assert (row.configuration.recipe.epochs, row.configuration.recipe.image_size) == (1, 64)


def test_weights_of_a_row_that_is_not_run_are_refused():
    protocol = load_protocol("gmsrf")
    wishes = Wishes(only=("U-Net",), weights={"PraNet": "imagenet"})
    rows = plan_rows(protocol, protocol.table("I"), protocol.scale("smoke"), wishes, None)
    with pytest.raises(BadSpace, match="no row that is run is named PraNet; rows: U-Net"):
        refuse_unused_weights(rows, wishes)
