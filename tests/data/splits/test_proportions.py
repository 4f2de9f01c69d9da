"""A group that is most of the data: said with its numbers where folds become unlike, refused where none is sensible."""

from __future__ import annotations

import json

import pytest
from case_datasets import CENTERS, SEQUENCES, dataset

from orchestrator.common.errors import BadSplit
from orchestrator.data.splits.plan import group_of_case, make_plan
from orchestrator.data.splits.proportions import hold_out_line, lopsided
from orchestrator.data.splits.split_file import read_plan, write_plan
from orchestrator.results.mlflow.tags import split_tags
from orchestrator.results.sinks.console import cautions

MOSTLY_ONE = dataset([[0.1] * 80, *[[0.2]] * 20], "Most")


def test_a_group_of_four_fifths_is_said_with_the_numbers_of_its_fold():
    for splits in ("five-fold", "k-fold:2", "repeated:2x5"):
        plan = make_plan(splits, [MOSTLY_ONE], seed=0)
        said = lopsided(plan, group_of_case([MOSTLY_ONE], None)) or ""
        assert (
            "cases and validates 8" in said and "80 of them in group Most/g0" in said and "--groups" in said
        )
        assert not {"Most/0-0"} & set(plan.test)


def test_the_warning_is_in_the_file_the_tags_and_the_cautions(tmp_path):
    plan = make_plan("five-fold", [MOSTLY_ONE], seed=0)
    write_plan(plan, tmp_path / "split.json")
    assert json.loads((tmp_path / "split.json").read_text())["warning"] == lopsided(plan)
    assert read_plan(tmp_path / "split.json", [MOSTLY_ONE], []) == plan
    assert split_tags(plan)["split_warning"] == lopsided(plan) and lopsided(plan) in cautions(plan)


def test_a_file_that_was_written_before_there_were_warnings_still_reads(tmp_path):
    plan = make_plan("five-fold", [MOSTLY_ONE], seed=0)
    write_plan(plan, tmp_path / "split.json")
    content = json.loads((tmp_path / "split.json").read_text())
    del content["warning"]
    (tmp_path / "split.json").write_text(json.dumps(content))
    assert read_plan(tmp_path / "split.json", [MOSTLY_ONE], []) == plan


@pytest.mark.parametrize("splits", ["five-fold", "k-fold:2", "holdout", "leave-one-center-out"])
def test_of_groups_that_are_no_fold_by_themselves_nothing_is_said(splits: str):
    sequences = dataset([[0.1] * size for size in SEQUENCES], "Sequences")
    for data in ([CENTERS], [sequences, CENTERS] if splits != "leave-one-center-out" else [CENTERS]):
        assert lopsided(make_plan(splits, data, seed=0)) is None


def test_a_center_that_is_most_of_the_data_is_said():
    data = [dataset([[0.1]] * 100, "Large"), dataset([[0.1]] * 10, "Small")]
    said = lopsided(make_plan("leave-one-dataset-out", data, seed=0)) or ""
    assert said.startswith("dataset Large trains on 9 cases and validates 90 of 99; more data")


@pytest.mark.parametrize("splits", ["five-fold", "repeated:2x3", "holdout"])
def test_a_group_that_leaves_nothing_to_train_on_is_refused_with_the_way_out(splits: str):
    data = dataset([[0.1] * 200, *[[0.2]] * 10], "Most")
    with pytest.raises(BadSplit, match=r"found Most/g0 with 200 of 209: .* would train on 9; .* --groups"):
        make_plan(splits, [data], seed=0)


def test_the_size_of_the_hold_out_is_said_beside_what_was_asked():
    data = dataset([[0.1] * 10] * 8, "Eight")
    plan = make_plan("five-fold", [data], seed=0)
    said = hold_out_line(plan, group_of_case([data], None), 0.1)
    assert said == "hold-out: 10 of 80 cases (12.5%, 10% requested), 1 of 8 groups"
