"""Cases that are dealt once more: other folds, and nothing else is another."""

from __future__ import annotations

import pytest
from case_datasets import World, dataset, worlds
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from orchestrator.common.errors import BadSplit
from orchestrator.data.splits.kinds import kind_named, parse_kind
from orchestrator.data.splits.plan import make_plan
from orchestrator.data.splits.resplit import FRESH, num_same, resplit
from orchestrator.data.splits.split_file import read_plan, write_plan
from orchestrator.data.splits.split_plan import SplitPlan

DEALT = ("five-fold", "k-fold:3", "repeated:2x3", "cross-dataset", "holdout")
MANY = dataset([[0.1]] * 40, "Many")


def twice(splits: str, world: World, seed: int) -> tuple[SplitPlan, SplitPlan]:
    """A plan and the same cases dealt again, if this world has both."""
    try:
        plan = make_plan(
            splits, world.sources, seed=seed, unseen=[world.unseen], near_duplicates=world.near_duplicates
        )
        return plan, resplit(plan, world.sources, [world.unseen])
    except BadSplit:
        reject()


@pytest.mark.parametrize("splits", DEALT)
@given(world=worlds, seed=st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_folds_drawn_again_keep_the_hold_out_and_part_no_group(splits: str, world: World, seed: int):
    plan, again = twice(splits, world, seed)
    component = world.component_of()
    assert (again.test, again.kind, again.datasets) == (plan.test, plan.kind, plan.datasets)
    for fold in again.folds:
        sides = [{component[id] for id in ids} for ids in (fold.train, fold.val, fold.test)]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


@pytest.mark.parametrize("splits", DEALT)
def test_folds_drawn_again_are_others_of_the_same_cases_and_make_a_split_file(splits: str, tmp_path):
    unseen = [dataset([[0.3]] * 3, "Far")]
    plan = make_plan(splits, [MANY], seed=0, unseen=unseen)
    again = resplit(plan, [MANY], unseen)
    assert {fold.val for fold in again.folds}.isdisjoint(fold.val for fold in plan.folds)
    if splits != "holdout":
        assert {id for f in again.folds for id in f.val} == {id for f in plan.folds for id in f.val}
    assert sorted(len(fold.val) for fold in again.folds) == sorted(len(fold.val) for fold in plan.folds)
    write_plan(again, tmp_path / "again.json")
    assert read_plan(tmp_path / "again.json", [MANY], unseen) == again


@pytest.mark.slow
def test_few_groups_are_drawn_until_the_fewest_folds_are_the_same():
    for num_groups, most in ((6, 5), (7, 2), (8, 0), (10, 0)):  # one group is held out
        few = dataset([[0.05 * (group % 4 + 1)] * 6 for group in range(num_groups)])
        for seed in range(5):
            plan = make_plan("five-fold", [few], seed=seed)
            again = resplit(plan, [few], [])
            assert num_same(plan, again) <= most and again == resplit(plan, [few], [])
    plan = make_plan("five-fold", [MANY], seed=0)
    assert resplit(plan, [MANY], []).seed == FRESH


def test_folds_that_follow_from_datasets_or_were_given_stay_as_they_are(tmp_path):
    sources = [MANY, dataset([[0.2]] * 9, "Next")]
    plan = make_plan("leave-one-dataset-out", sources, seed=0)
    assert resplit(plan, sources, []) == plan
    ids = [case.id for case in MANY.cases]
    (tmp_path / "five-fold.json").write_text(
        str({"folds": [{"train": ids[:30], "val": ids[30:]}]}).replace("'", '"')
    )
    given = make_plan(str(tmp_path / "five-fold.json"), [MANY], seed=0)
    assert given.kind == "five-fold" and resplit(given, [MANY], []) == given


@pytest.mark.parametrize(
    "asked", ["five-fold", "k-fold:7", "repeated:2x3", "holdout", "cross-dataset", "leave-one-center-out"]
)
def test_the_name_of_a_kind_says_how_to_draw_it_again(asked: str):
    kind = parse_kind(asked)
    assert kind is not None and kind_named(kind.name) == kind
    assert kind_named("my-own-split") is None
