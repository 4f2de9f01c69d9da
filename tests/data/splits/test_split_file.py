from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from case_datasets import SINGLES, VIDEOS, World, dataset, worlds
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from split_plans import five_fold

from orchestrator.common.errors import BadSplit
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.kinds import KINDS
from orchestrator.data.splits.plan import make_plan
from orchestrator.data.splits.split_file import read_plan, write_plan
from orchestrator.data.splits.split_plan import SplitPlan

EVERY = [kind.replace("N", "3").replace("RxK", "2x3") for kind in KINDS]
FAR = dataset([[0.1]] * 3, name="Far")
TWINS = [("Clinic/3-1", "Clinic/6-0"), ("Clinic/3-1", "Far/2-0")]


@pytest.fixture
def written(tmp_path: Path) -> tuple[SplitPlan, Path]:
    plan = five_fold([VIDEOS], seed=0, unseen=[FAR], near_duplicates=TWINS)
    write_plan(plan, tmp_path / "plans" / "split.json")
    return plan, tmp_path / "plans" / "split.json"


def edited(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def in_parts(dataset: Dataset) -> Dataset:
    """The dataset as if published in parts: half of its groups to train on, the others to validate and test on."""
    groups = sorted({case.group for case in dataset.cases})
    part_of = {group: ("train", "val", "train", "test")[n % 4] for n, group in enumerate(groups)}
    return replace(dataset, cases=tuple(replace(case, part=part_of[case.group]) for case in dataset.cases))


@pytest.mark.parametrize("splits", EVERY)
@given(world=worlds)
@settings(max_examples=15, deadline=None)
def test_a_plan_is_read_as_it_was_written(splits: str, world: World, tmp_path_factory):
    file = tmp_path_factory.mktemp("plans") / "split.json"
    sources = [in_parts(source) for source in world.sources]
    try:
        plan = make_plan(
            splits, sources, seed=0, unseen=[world.unseen], near_duplicates=world.near_duplicates
        )
    except BadSplit:
        reject()
    write_plan(plan, file)
    assert read_plan(file, sources, [world.unseen]) == plan
    assert make_plan(str(file), sources, seed=9, unseen=[world.unseen]) == plan
    assert [other.name for other in file.parent.iterdir()] == ["split.json"]


def test_a_file_that_says_by_twins_as_earlier_versions_did_is_read(tmp_path: Path):
    plan, file = five_fold([SINGLES], seed=0, near_duplicates=[]), tmp_path / "split.json"
    write_plan(plan, file)
    assert read_plan(edited(file, name="five-fold-by-twins-seed0"), [SINGLES], []) == plan
    with pytest.raises(BadSplit, match="the file was edited"):
        read_plan(edited(file, name="five-fold-by-sisters-seed0"), [SINGLES], [])


def test_the_file_counts_its_cases_near_duplicates_and_what_was_dropped(written):
    plan, path = written
    counts = json.loads(path.read_text())["counts"]
    assert counts["folds"][1]["val"] == len(plan.folds[1].val)
    assert counts["test"] == len(plan.test)
    assert counts["twins"] == 2
    assert (plan.num_near_duplicates, plan.num_unseen_near_duplicates) == ((1, 1), 1)
    assert counts["dropped"] == {"twin in the training datasets": 1}


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where the plain values and empty lists of a JSON document are."""
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list) and value:
        for index, one in enumerate(value):
            yield from leaves(one, (*path, index))
    else:
        yield path


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_edit_is_refused(data: st.DataObject, tmp_path_factory):
    path = tmp_path_factory.mktemp("plans") / "split.json"
    plan = make_plan("leave-one-dataset-out", [VIDEOS, FAR], seed=0, near_duplicates=TWINS)
    write_plan(plan, path)
    content = json.loads(path.read_text())
    *parents, last = data.draw(st.sampled_from(sorted(leaves(content), key=str)))
    changed = copy.deepcopy(content)
    holder = changed
    for key in parents:
        holder = holder[key]
    if data.draw(st.booleans()):
        del holder[last]
    else:
        value = data.draw(
            st.sampled_from(["x", 7, True, False, None, [], ["Clinic/0-0"], {"y": ["Clinic/0-0"]}])
        )
        holder[last] = value
    if changed == content or "warning" not in changed:  # which earlier files lack
        reject()
    path.write_text(json.dumps(changed))
    with pytest.raises(BadSplit):
        read_plan(path, [VIDEOS, FAR], [])


def test_a_case_that_moves_from_training_to_validation_is_an_edit(written):
    _, path = written
    content = json.loads(path.read_text())
    moved = content["folds"][0]["train"].pop()
    content["folds"][0]["val"].append(moved)
    with pytest.raises(BadSplit, match="the file was edited"):
        read_plan(edited(path, folds=content["folds"]), [VIDEOS], [FAR])


def test_a_plan_for_other_data_is_refused(written):
    _, path = written
    with pytest.raises(BadSplit, match="print of Clinic, found changed"):
        read_plan(path, [replace(VIDEOS, fingerprint="changed")], [FAR])
    with pytest.raises(BadSplit, match="unseen dataset Far: is part of the split file, but was not named"):
        read_plan(path, [VIDEOS], [])


def test_a_case_that_is_gone_is_named(written):
    _, path = written
    shorter = replace(VIDEOS, cases=VIDEOS.cases[1:])
    with pytest.raises(BadSplit, match=r"no dataset named here has these cases: Clinic/0-0$"):
        read_plan(path, [shorter], [FAR])


def test_a_file_for_quite_other_data_is_refused_in_few_words(written):
    _, path = written
    with pytest.raises(BadSplit) as error:
        read_plan(path, [dataset([[0.1]] * 40, "Other")], [])
    assert len(error.value.problems) == 3


def test_a_group_that_straddles_is_named(written):
    plan, path = written
    merged = tuple(
        replace(c, group="one") if c.id in (plan.test[0], plan.folds[0].val[0]) else c for c in VIDEOS.cases
    )
    with pytest.raises(BadSplit, match="fold 0: these groups are in val and in test: one"):
        read_plan(path, [replace(VIDEOS, cases=merged)], [FAR])


def test_a_file_is_checked_against_the_near_duplicates_it_was_made_with(written):
    plan, path = written
    parted = [(plan.folds[0].val[0], plan.folds[1].val[0]), ("Clinic/0-0", "Far/0-0")]
    write_plan(replace(plan, near_duplicates=tuple(parted)), path)
    with pytest.raises(BadSplit) as error:
        read_plan(path, [VIDEOS], [FAR])
    assert "are in train and in val" in str(error.value)
    assert (
        "these cases are unseen, but have near-duplicates in the training datasets: Far/0-0"
        in error.value.problems
    )


def test_a_file_of_an_older_format_is_refused_with_words(tmp_path):
    (tmp_path / "split.json").write_text('{"format": 1, "name": "five-fold-seed0"}')
    with pytest.raises(BadSplit, match=r"format: expected 2, found 1: .* again"):
        read_plan(tmp_path / "split.json", [VIDEOS], [])


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', "\x00", "{}", '{"folds": []}', '{"folds": [1]}'])
def test_a_file_that_is_no_plan_is_refused(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(BadSplit):
        read_plan(tmp_path / "split.json", [VIDEOS], [])


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """Write a split as a user would: the first two videos are the test, and the others are validated in two halves."""

    def write(**changes: Any) -> Path:
        ids = [case.id for case in VIDEOS.cases]
        video = {case.id: int(case.group.removeprefix("Clinic/g")) for case in VIDEOS.cases}
        test = [id for id in ids if video[id] < 2]
        halves = [
            [id for id in ids if id not in test and int(id.split("/")[1].split("-")[0]) % 2 == half]
            for half in (0, 1)
        ]
        folds = [{"train": halves[1], "val": halves[0]}, {"train": halves[0], "val": halves[1]}]
        content = {"folds": folds, "test": test} | changes
        path = tmp_path / "official.json"
        path.write_text(json.dumps(content))
        return path

    return write


def test_a_split_of_ones_own_needs_folds_and_a_test_and_is_named_after_its_file(own):
    plan = make_plan(str(own()), [VIDEOS], seed=3, unseen=[FAR])
    assert (plan.name, plan.seed, len(plan.folds)) == ("official", None, 2)
    assert plan.datasets == {"Clinic": "print of Clinic"}
    write_plan(plan, own().with_name("again.json"))
    assert read_plan(own().with_name("again.json"), [VIDEOS], [FAR]) == plan
    assert make_plan(str(own(name="pranet")), [VIDEOS], seed=0).name == "pranet"


def test_a_split_of_ones_own_is_held_to_the_same_rules(own):
    first, second = json.loads(own().read_text())["folds"]
    moved = first["val"][0]
    straddling = {"train": first["train"] + [moved], "val": first["val"][1:]}
    with pytest.raises(BadSplit, match=f"are in train and in val: {moved.replace('/', '/g').split('-')[0]}"):
        read_plan(own(folds=[straddling, second]), [VIDEOS], [])
    with pytest.raises(BadSplit, match=f"fold 0: does not list these cases: {first['val'][0]}$"):
        read_plan(own(folds=[first | {"val": first["val"][1:]}, second]), [VIDEOS], [])
    with pytest.raises(BadSplit, match=f"fold 0: listed more than once: {moved}"):
        read_plan(own(folds=[first | {"val": first["val"] + [moved]}, second]), [VIDEOS], [])
    with pytest.raises(BadSplit, match="2 folds are identical"):
        read_plan(own(folds=[first, first]), [VIDEOS], [])
    with pytest.raises(BadSplit, match="equally often, found 1 to 2 times"):
        third = {"train": first["train"] + first["val"][1:], "val": first["val"][:1]}
        read_plan(own(folds=[first, second, third]), [VIDEOS], [])
    with pytest.raises(BadSplit, match=r"name: expected letters.* found 'a/b'"):
        read_plan(own(name="a/b"), [VIDEOS], [])


def test_a_split_of_ones_own_may_leave_cases_out_and_say_why(own):
    folds = json.loads(own().read_text())["folds"]
    blurred = folds[0]["val"][0]
    fewer = [{part: [id for id in ids if id != blurred] for part, ids in fold.items()} for fold in folds]
    plan = read_plan(
        own(folds=fewer, dropped={"blurred": [blurred]}), [VIDEOS], [FAR], near_duplicates=TWINS[1:]
    )
    assert plan.num_dropped == {"blurred": 1, "twin in the training datasets": 1}


def test_near_duplicates_that_a_split_of_ones_own_parts_are_named(own):
    first = json.loads(own().read_text())["folds"][0]
    with pytest.raises(BadSplit, match="are in train and in val") as error:
        read_plan(own(), [VIDEOS], [], near_duplicates=[(first["train"][0], first["val"][0])])
    assert "--no-near-duplicates accepts the file" in error.value.problems[-1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested more than 32 deep"),
        ('{"folds": [{"train": ' + "[" * 40, "nested more than 32 deep"),
        ('{"folds": [], "folds": []}', "key 'folds' is given more than once"),
        ('{"format": ' + "9" * 5_000 + "}", "one of 5,000 digits"),
        ('{"format": NaN}', "expected finite numbers"),
        ('{"folds": [{"train": ["\\ud800"], "val": []}]}', "lone surrogate"),
        ('{"folds": [' + ",".join(["1"] * 9_999) + "]}", "and 9979 more problems"),
        (
            '{"folds": [' + ",".join(['{"train": ["a"], "val": ["b"]}'] * 10_001) + "]}",
            "at most 10,000, found 10,001",
        ),
        ('{"name": "' + "a" * 99_999 + '", "folds": []}', "name: expected letters"),
    ],
)
def test_a_file_that_means_harm_is_refused_in_few_words(tmp_path: Path, text: str, why: str):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(BadSplit, match=why) as refused:
        read_plan(tmp_path / "splits.json", [VIDEOS], [])
    assert len(str(refused.value)) < 5_000


@pytest.mark.slow
def test_a_split_of_a_hundred_thousand_cases_is_read(tmp_path: Path):
    cases = [[0.1]] * 100_000
    data = dataset(cases)
    ids = [case.id for case in data.cases]
    folds = [
        {"train": ids[:k] + ids[k + 20_000 :], "val": ids[k : k + 20_000]} for k in range(0, 100_000, 20_000)
    ]
    (tmp_path / "splits.json").write_text(json.dumps({"folds": folds}))
    assert len(read_plan(tmp_path / "splits.json", [data], []).folds) == 5
