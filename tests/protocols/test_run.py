from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.common.errors import BadData
from orchestrator.data.cases import load_dataset
from orchestrator.protocols.fits import Wishes
from orchestrator.protocols.outcome.measured import measure
from orchestrator.protocols.outcome.results_file import as_plain, check_writable, write_results
from orchestrator.protocols.outcome.survival import published_differences
from orchestrator.protocols.plan import plan_table
from orchestrator.protocols.protocol import load_protocol
from orchestrator.protocols.run import RowRun
from orchestrator.protocols.set_scores import SetScores
from orchestrator.protocols.splits import split_table


def test_datasets_are_found_by_how_people_name_them_and_a_missing_one_says_how_to_add_it(tiny):
    plan = tiny.plan()
    assert {wanted: one.dataset.name for wanted, one in plan.taken.items()} == {
        "Kvasir-SEG": "kvasir",
        "CVC-ClinicDB": "cvc-612",
    }
    assert "Kvasir-SEG: 60 of 1,000 images" in plan.differences()
    (line,) = [line for line in plan.differences() if "CVC-300" in line]
    assert "orchestrator data add CVC-300" in line and "--data CVC-300=NAME" in line


def test_another_dataset_in_its_place_is_reported(tiny):
    plan = tiny.plan(**{"CVC-300": "cvc-612"})
    assert plan.images["CVC-300"].dataset.name == "cvc-612"
    with pytest.raises(BadData, match="no dataset is named no-such"):
        tiny.plan(**{"CVC-300": "no-such"})


def test_what_the_scale_changes_is_reported_by_value(tiny):
    told = "\n".join(tiny.plan().differences())
    assert "epochs: 1 in place of 3 (--scale smoke)" in told and "image size: 32 in place of 64" in told
    assert "weights: random, where the paper starts from ImageNet: wider" in told
    assert "nothing is known of it" in told


def test_every_row_is_filled_and_the_same_again_trains_and_scores_nothing(tiny):
    run, first = tiny.run()
    source, unseen, absent = measure(run)
    for one in (source, unseen):
        assert [row.error for row in one.rows] == [None] * 3
        assert all(cell.measured is not None for row in one.rows for cell in row.cells)
    assert all(row.cells[0].measured is None for row in absent.rows)
    assert len(first.performed) == 2 + 3 * 2  # the rule shares its fit with "wider"
    _, again = tiny.run()
    assert again.performed == []


def test_a_score_that_was_damaged_is_made_again_and_no_fit(tiny):
    tiny.run()
    folder = sorted(tiny.places.set_scores.iterdir())[0]
    (folder / "values.npz").write_bytes(b"no archive")
    _, again = tiny.run()
    assert again.performed == [folder.name]


def test_a_fit_that_fails_leaves_its_reason_and_others_their_numbers(tiny):
    tiny.run()
    failed, _ = tiny.run(Wishes(only=("narrow",), num_seeds=3), fails="unet")
    row = measure(failed)[0].rows[0]
    assert "the loss became nan" in row.error and row.cells[0].measured is not None


def test_a_second_seed_gives_a_spread_over_the_same_images(tiny):
    run, _ = tiny.run(Wishes(only=("narrow",), num_seeds=2))
    cell = measure(run)[1].rows[0].cells[0]
    assert cell.spread is not None and cell.interval[0] <= cell.measured <= cell.interval[1]
    assert [spec.recipe.seed for spec in run.plan.rows[0].fits] == [0, 1]


def test_a_group_stays_on_one_side_and_no_image_is_in_two_parts(tiny):
    dataset, table = load_dataset(tiny.home, "kvasir"), tiny.plan().table
    group_of = {case.id: case.id.split("_")[0] for case in dataset.cases}
    scale = tiny.plan().scale
    (fold,) = split_table(table, dataset, replace_scale(scale), group_of).folds
    groups = [{group_of[id] for id in part} for part in (fold.train, fold.val, fold.test)]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert len({*fold.train, *fold.val, *fold.test}) == len(dataset.cases)


def replace_scale(scale):
    return scale.model_copy(update={"train_images": None, "val_images": None, "test_images": None})


def test_images_are_drawn_by_file_name_whatever_the_dataset_is_called(tiny):
    dataset, plan = load_dataset(tiny.home, "kvasir"), tiny.plan()
    cases = tuple(replace(case, id=f"other/{case.id.split('/')[1]}") for case in dataset.cases)
    renamed = replace(dataset, name="other", cases=cases)
    (one,) = split_table(plan.table, dataset, plan.scale).folds
    (other,) = split_table(plan.table, renamed, plan.scale).folds
    assert [id.split("/")[1] for id in one.test] == [id.split("/")[1] for id in other.test]


def scored(test: str, narrow: np.ndarray, wider: np.ndarray) -> dict[str, RowRun]:
    ids = tuple(f"c{number}" for number in range(len(narrow)))
    values = {"narrow": narrow, "wider": wider}
    return {
        name: RowRun(name, {(0, 0, test): SetScores(ids, {"dice_image": dice}, None)})
        for name, dice in values.items()
    }


SIGN = np.where(np.arange(40) % 2, 1.0, -1.0)


def test_a_published_difference_is_held_against_the_spread_of_networks_that_score_alike(tiny):
    plan = tiny.plan(Wishes(only=("narrow", "wider")))
    rows = scored("CVC-ClinicDB", 0.8 + 0.1 * SIGN, np.full(40, 0.75))
    (one,) = [one for one in published_differences(tiny.fabricated(plan, rows)) if one.test == "CVC-ClinicDB"]
    assert one.half_width == pytest.approx(1.96 * 0.1 * np.sqrt(40 / 39) / np.sqrt(612))
    assert one.survives is True and one.why == "yes, with the spread here"  # 0.80 against 0.79


def test_the_spread_of_networks_that_score_otherwise_says_nothing(tiny):
    plan = tiny.plan(Wishes(only=("narrow", "wider")))
    rows = scored("CVC-ClinicDB", 0.3 + 0.1 * SIGN, np.full(40, 0.2))
    (one,) = [one for one in published_differences(tiny.fabricated(plan, rows)) if one.test == "CVC-ClinicDB"]
    assert one.survives is None and one.why == "not known: scores here are 0.30 and 0.20"


def test_a_difference_beyond_the_largest_spread_that_means_allow_needs_no_measurement(tiny):
    plan = tiny.plan(Wishes(only=("narrow", "wider")))
    rows = scored("CVC-ClinicDB", SIGN, SIGN)
    (one,) = [one for one in published_differences(tiny.fabricated(plan, rows)) if one.test == "Kvasir-SEG"]
    assert one.largest_half_width == pytest.approx(
        1.96 * (0.3 + np.sqrt(0.21)) / 10
    )  # 0.9 against 0.7, 100 images
    assert one.survives is True and one.why == "yes, whatever the spread"


def test_results_of_several_tables_live_in_one_file_and_a_rerun_replaces_its_own(tiny, tmp_path: Path):
    run, _ = tiny.run()
    plain = as_plain(run, measure(run), published_differences(run), "orchestrator reproduce tiny")
    file = tmp_path / "RESULTS.md"
    for key in ("tiny I smoke", "tiny II smoke", "tiny I smoke"):
        write_results(file, key, plain)
    text = file.read_text()
    assert (
        text.count("<!-- reproduce: tiny I smoke -->") == text.count("<!-- reproduce: tiny II smoke -->") == 1
    )
    assert (
        "| narrow | published | 0.9000 |" in text
        and "torch " in text
        and "Differences from the paper" in text
    )
    check_writable(file)


def test_what_an_earlier_run_had_and_a_rerun_has_not_is_named(tiny, tmp_path: Path):
    run, _ = tiny.run()
    plain = as_plain(run, measure(run), published_differences(run), "orchestrator reproduce tiny")
    file = tmp_path / "RESULTS.md"
    assert write_results(file, "tiny I smoke", plain | {"seeds": [0, 1, 2], "datasets": {}}) == []
    assert write_results(file, "tiny I smoke", plain) == ["3 seeds", "other data (none)"]
    assert write_results(file, "tiny I smoke", plain) == []


def test_results_without_the_json_that_they_follow_from_are_not_overwritten(tiny, tmp_path: Path):
    run, _ = tiny.run()
    file = tmp_path / "RESULTS.md"
    write_results(file, "tiny I smoke", as_plain(run, measure(run), (), "orchestrator reproduce tiny"))
    file.with_suffix(".json").unlink()
    with pytest.raises(BadData, match=r"has no RESULTS\.json next to it"):
        check_writable(file)


def test_a_file_that_the_command_did_not_write_is_not_touched(tmp_path: Path):
    file = tmp_path / "RESULTS.md"
    file.write_text("# My own notes\n")
    with pytest.raises(BadData, match="was not written by this command"):
        check_writable(file)


@pytest.mark.parametrize("name", ["no-folder.md", "a-file/RESULTS.md"])
def test_a_place_where_no_file_can_be_made_is_refused_before_anything_is_trained(tmp_path: Path, name: str):
    (tmp_path / "no-folder.md").mkdir()
    (tmp_path / "a-file").write_text("")
    with pytest.raises(BadData, match=r"the folder .*no-folder|a-file is a file"):
        check_writable(tmp_path / name)


def test_some_rows_alone_do_not_take_the_place_of_the_whole_table(tiny):
    assert tiny.plan().key == "tiny I smoke"
    assert tiny.plan(Wishes(only=("Narrow",))).key == "tiny I smoke only narrow"
    assert tiny.plan(Wishes(only=("smoke",))).key == "tiny I smoke"  # all rows, by their network


def test_images_that_are_trained_on_are_not_tested_on(tiny):
    with pytest.raises(
        BadData, match="CVC-ClinicDB: images of kvasir are trained on; name others with --data"
    ):
        tiny.plan(**{"CVC-ClinicDB": "kvasir"})


def test_a_dataset_that_is_given_for_another_is_told_by_its_name(tiny):
    told = tiny.plan(**{"CVC-300": "cvc-612"}).differences()
    assert "cvc-612 (24 images) is used as CVC-300, as --data says" in told


def test_centers_that_a_dataset_does_not_know_keep_nothing_apart(tiny):
    protocol = load_protocol("parallel-res2net")
    with pytest.raises(BadData, match=r"C1: .*are trained on|has no images of C1; it knows"):
        plan_table(protocol, "1", "smoke", Wishes(), tiny.home, {"EndoCV2021": "kvasir"})


def test_a_score_that_needs_more_images_is_refused_before_anything_is_trained(tiny):
    with pytest.raises(BadData, match="mean Dice needs 17 images or more, found 12"):
        plan_table(load_protocol("attention-unet"), "1", "smoke", Wishes(), tiny.home, {})


def test_a_score_divided_by_the_batches_less_one_says_what_a_perfect_network_has(tiny):
    plan = replace(tiny.plan(), table=load_protocol("attention-unet").table("1"))
    images = replace(plan.images["Kvasir-SEG"], of_fold=(tuple("abcdefghijklmnopqr"),))
    told = replace(plan, images={"Kvasir-SEG": images}).differences()
    assert told[-1].endswith("a perfect network scores 2.00 and half of that is 1.00")
