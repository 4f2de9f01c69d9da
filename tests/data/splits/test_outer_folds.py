"""Outer folds: whole parts that the plans made for them know nothing of."""

from __future__ import annotations

import pytest
from case_datasets import World, dataset, worlds
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from orchestrator.common.errors import BadSplit
from orchestrator.data.splits.outer_folds import SET_ASIDE, outer_plans
from orchestrator.data.splits.plan import make_plan
from orchestrator.data.splits.split_file import read_plan, write_plan
from orchestrator.data.splits.split_plan import SplitPlan

DEALT = ("five-fold", "k-fold:3", "repeated:2x3", "cross-dataset", "holdout")
LEFT_OUT = ("leave-one-center-out", "leave-one-dataset-out")
FEW = settings(max_examples=12, deadline=None)
FAR = dataset([[0.3]] * 3, "Far")
CENTERS = dataset([[0.1, 0.2]] * 16, "Gen", centers=("C1", "C2", "C3", "C4"))


def nested(splits: str, world: World, seed: int) -> tuple[SplitPlan, tuple[SplitPlan, ...]]:
    """A plan and those of three outer folds, if this world has them."""
    try:
        plan = make_plan(
            splits, world.sources, seed=seed, unseen=[world.unseen], near_duplicates=world.near_duplicates
        )
        return plan, outer_plans(plan, world.sources, [world.unseen], 3)
    except BadSplit:
        reject()


def fitted(plan: SplitPlan) -> set[str]:
    """Cases that some fold trains on or validates."""
    return {id for fold in plan.folds for id in (*fold.train, *fold.val)}


@pytest.mark.parametrize("splits", DEALT)
@given(world=worlds, seed=st.integers(0, 3))
@FEW
def test_no_study_sees_a_case_of_its_outer_fold_or_one_of_its_group_or_a_near_duplicate(
    splits: str, world: World, seed: int
):
    plan, outer = nested(splits, world, seed)
    component = world.component_of()
    for inner in outer:
        assert not {component[id] for id in inner.test} & {component[id] for id in fitted(inner)}
        assert not set(plan.test) & {*inner.test, *fitted(inner)}
        assert all(fold.test == inner.test for fold in inner.folds)


@pytest.mark.parametrize("splits", DEALT)
@given(world=worlds, seed=st.integers(0, 3))
@FEW
def test_every_case_but_the_hold_out_is_tested_in_one_outer_fold(splits: str, world: World, seed: int):
    plan, outer = nested(splits, world, seed)
    tested = [id for inner in outer for id in inner.test]
    assert len(tested) == len(set(tested))
    everyone = {case.id for source in world.sources for case in source.cases}
    assert set(tested) == everyone - set(plan.test) - plan.left_out


@pytest.mark.parametrize("splits", (*DEALT, *LEFT_OUT))
def test_the_plan_of_an_outer_fold_is_a_split_file_of_the_same_kind(splits: str, tmp_path):
    sources = [CENTERS, *(dataset([[0.2]] * 9, name) for name in ("Next", "Third", "Last"))]
    near_duplicates = [("Gen/0-0", "Gen/5-1"), ("Next/0-0", "Next/3-0"), ("Far/0-0", "Gen/4-0")]
    plan = make_plan(splits, sources, seed=1, unseen=[FAR], near_duplicates=near_duplicates)
    for number, inner in enumerate(outer_plans(plan, sources, [FAR], 3)):
        assert (inner.kind, inner.datasets, inner.unseen) == (plan.kind, plan.datasets, plan.unseen)
        assert inner.dropped[SET_ASIDE] == plan.test
        write_plan(inner, tmp_path / f"{number}.json")
        assert read_plan(tmp_path / f"{number}.json", sources, [FAR]) == inner


def test_where_folds_are_centers_so_are_outer_folds():
    near_duplicates = [("Gen/0-0", "Gen/1-1")]  # of C1 and C2
    plan = make_plan("leave-one-center-out", [CENTERS], seed=0, near_duplicates=near_duplicates)
    outer = outer_plans(plan, [CENTERS], [], 4)
    center_of = {case.id: case.center for case in CENTERS.cases}
    group_of = {case.id: case.group for case in CENTERS.cases}
    tied = {"Gen/g0", "Gen/g1"}
    for inner in outer:
        (center,) = {center_of[id] for id in inner.test}
        assert center not in {center_of[id] for id in fitted(inner)}
        assert len(inner.folds) == 3
        assert not tied & {group_of[id] for id in inner.test}  # they have a twin in another center
    assert {center_of[id] for inner in outer for id in inner.test} == {"C1", "C2", "C3", "C4"}


def test_outer_folds_that_cannot_be_are_refused_with_every_problem(tmp_path):
    few = dataset([[0.1]] * 4, "Few")
    plan = make_plan("k-fold:3", [few], seed=0, holdout=0)
    with pytest.raises(BadSplit, match="outer fold 5") as refusal:
        outer_plans(plan, [few], [], 6)
    assert "too few groups" in str(refusal.value) and "fewer outer folds" in str(refusal.value)
    pair = [few, dataset([[0.2]] * 9, "Next")]
    with pytest.raises(BadSplit, match="needs 2 datasets in the rest, found 1"):
        outer_plans(make_plan("leave-one-dataset-out", pair, seed=0), pair, [], 2)
    ids = [case.id for case in few.cases]
    (tmp_path / "own.json").write_text(str({"folds": [{"train": ids[:2], "val": ids[2:]}]}).replace("'", '"'))
    with pytest.raises(BadSplit, match="these folds are fixed"):
        outer_plans(make_plan(str(tmp_path / "own.json"), [few], seed=0), [few], [], 2)


def test_outer_folds_are_the_same_every_time():
    plan = make_plan("five-fold", [CENTERS], seed=0)
    assert outer_plans(plan, [CENTERS], [], 3) == outer_plans(plan, [CENTERS], [], 3)
