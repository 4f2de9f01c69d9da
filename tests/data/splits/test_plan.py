from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from case_datasets import CENTERS, SINGLES, VIDEOS, World, dataset, datasets, worlds
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st
from split_plans import five_fold

from orchestrator.common.errors import BadSplit
from orchestrator.data.splits.plan import make_plan
from orchestrator.data.splits.split_plan import SplitPlan

DEALT = {"five-fold": 1, "k-fold:3": 1, "repeated:3x4": 3, "cross-dataset": 1}  # -> times a case is validated
LEFT_OUT = ("leave-one-center-out", "leave-one-dataset-out")
FEW = settings(max_examples=20, deadline=None)  # worlds for each kind
EVERY = (*DEALT, "holdout", *LEFT_OUT)
FIXED = World(
    (VIDEOS, CENTERS), dataset([[0.3]] * 6, "Far"), [("Clinic/2-0", "Gen/4-1"), ("Gen/4-0", "Far/2-0")]
)


def plan_of(splits: str, world: World, seed: int = 0) -> SplitPlan:
    """A plan, if this world has one: twins may tie all of it together."""
    try:
        return make_plan(
            splits, world.sources, seed=seed, unseen=[world.unseen], near_duplicates=world.near_duplicates
        )
    except BadSplit:
        reject()


def group_sizes(world: World, plan: SplitPlan) -> Counter[int]:
    """Cases of each group, merged with its twins, as far as the plan deals them."""
    component = world.component_of()
    return Counter(component[case.id] for source in world.sources for case in source.cases)


@pytest.mark.parametrize("splits", EVERY)
@given(world=worlds, seed=st.integers(0, 3))
@FEW
@example(world=FIXED, seed=0)
def test_every_case_has_one_part_in_every_fold_and_unseen_ones_have_none(
    splits: str, world: World, seed: int
):
    plan = plan_of(splits, world, seed)
    sources = sorted(case.id for source in world.sources for case in source.cases)
    for fold in plan.folds:
        dropped = [id for ids in fold.dropped.values() for id in ids]
        assert sorted((*fold.train, *fold.val, *fold.test, *dropped)) == sources
        assert fold.train and fold.val and fold.test == plan.test


@pytest.mark.parametrize("splits", EVERY)
@given(world=worlds, seed=st.integers(0, 3))
@FEW
@example(world=FIXED, seed=0)
def test_no_group_and_no_near_duplicates_straddle_a_fold_or_training_and_an_unseen_dataset(
    splits: str, world: World, seed: int
):
    plan, component = plan_of(splits, world, seed), world.component_of()
    for fold in plan.folds:
        train, val, test = ({component[id] for id in part} for part in (fold.train, fold.val, fold.test))
        assert not train & val and not train & test and not val & test
    trained = {component[case.id] for source in world.sources for case in source.cases}
    tied = {case.id for case in world.unseen.cases if component[case.id] in trained}
    assert plan.left_out == tied


@pytest.mark.parametrize("splits", DEALT)
@given(world=worlds)
@FEW
@example(world=FIXED)
def test_drawn_folds_validate_every_case_equally_often_and_are_of_one_size(splits: str, world: World):
    plan, sizes = plan_of(splits, world), group_sizes(world, plan_of(splits, world))
    validated = Counter(id for fold in plan.folds for id in fold.val)
    assert set(validated.values()) == {DEALT[splits]} == {plan.num_repeats}
    assert len(validated) + len(plan.test) == sum(sizes.values())
    counts = [len(fold.val) for fold in plan.folds]
    assert max(counts) - min(counts) <= max(sizes.values())


@pytest.mark.parametrize("splits", EVERY)
@given(world=worlds, seed=st.integers(0, 3))
@FEW
@example(world=FIXED, seed=0)
def test_the_hold_out_is_as_large_as_was_asked_give_or_take_the_largest_group(
    splits: str, world: World, seed: int
):
    plan = plan_of(splits, world, seed)
    sizes = group_sizes(world, plan)
    slack = 1 + max(sizes.values())
    assert abs(len(plan.test) - 0.1 * sum(sizes.values())) <= slack
    if splits == "holdout":
        (fold,) = plan.folds
        assert abs(len(fold.val) - 0.1 * sum(sizes.values())) <= slack


@pytest.mark.parametrize("splits", LEFT_OUT)
@given(world=worlds)
@FEW
@example(world=FIXED)
def test_each_fold_validates_one_center_or_dataset_but_for_what_the_others_know(splits: str, world: World):
    plan, component = plan_of(splits, world), world.component_of()
    cases = {case.id: case for source in world.sources for case in source.cases if case.id not in plan.test}
    by_center = splits == "leave-one-center-out"
    origin = {
        id: f"center {case.dataset}/{case.center}" if by_center and case.center else f"dataset {case.dataset}"
        for id, case in cases.items()
    }
    origin = {id: name.replace("dataset ", "center ") if by_center else name for id, name in origin.items()}
    assert {fold.name for fold in plan.folds} == set(origin.values())
    for fold in plan.folds:
        own = {id for id in cases if origin[id] == fold.name}
        known = {component[id] for id in cases.keys() - own}
        assert set(fold.train) == cases.keys() - own
        assert set(fold.val) == {id for id in own if component[id] not in known}
        by_group = {cases[id].group for id in cases.keys() - own}
        reasons = {id: reason for reason, ids in fold.dropped.items() for id in ids}
        for id, reason in reasons.items():
            assert reason == ("group in training" if cases[id].group in by_group else "twin in training")


@pytest.mark.parametrize("splits", EVERY)
@given(world=worlds, random=st.randoms(use_true_random=False))
@FEW
def test_the_order_of_datasets_cases_and_near_duplicates_does_not_matter(splits: str, world: World, random):
    def shuffled(data):
        return replace(data, cases=tuple(random.sample(data.cases, len(data.cases))))

    near_duplicates = [random.choice([(one, other), (other, one)]) for one, other in world.near_duplicates]
    other = World(
        sources=tuple(random.sample([shuffled(source) for source in world.sources], len(world.sources))),
        unseen=shuffled(world.unseen),
        near_duplicates=random.sample(near_duplicates, len(near_duplicates)) + near_duplicates[:1],
    )
    assert plan_of(splits, world).digest == plan_of(splits, other).digest


@given(datasets, st.integers(2, 5))
def test_folds_differ_in_cases_by_no_more_than_the_largest_group(data, num_folds):
    counts = [len(fold.val) for fold in five_fold([data], seed=0, num_folds=num_folds).folds]
    assert min(counts) > 0
    assert max(counts) - min(counts) <= max(Counter(case.group for case in data.cases).values())


@given(st.lists(st.sampled_from([0.0, 0.02, 0.1, 0.4]), min_size=10, max_size=80), st.integers(2, 5))
def test_single_images_without_polyp_are_spread_evenly(fractions, num_folds):
    data = dataset([[fraction] for fraction in fractions])
    area = {case.id: case.polyp_fraction for case in data.cases}
    plan = five_fold([data], seed=0, num_folds=num_folds, holdout=0)
    counts = [sum(area[id] == 0 for id in fold.val) for fold in plan.folds]
    assert max(counts) - min(counts) <= 1


def test_single_images_are_spread_evenly_with_a_fold_like_every_other():
    plan = five_fold([SINGLES], seed=3, holdout=0)
    area = {case.id: case.polyp_fraction for case in SINGLES.cases}
    assert [len(fold.val) for fold in plan.folds] == [12] * 5
    assert {sum(area[id] == 0 for id in fold.val) for fold in plan.folds} <= {1, 2}
    sums = [sum(area[id] for id in fold.val) for fold in plan.folds]
    assert max(sums) < 1.25 * min(sums)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25])
def test_the_hold_out_has_about_its_share_of_the_cases(share):
    assert len(five_fold([SINGLES], seed=0, holdout=share).test) == 60 * share
    assert len(five_fold([VIDEOS], seed=0, holdout=share).test) == pytest.approx(50 * share, abs=2)


@pytest.mark.parametrize("size", [30, 60])
def test_a_dataset_of_large_groups_takes_nothing_from_the_share_of_the_next(size: int):
    videos = dataset([[0.1] * size] * (360 // size), "Videos")
    for seed in range(5):
        plan = five_fold([videos, SINGLES, dataset([[0.2]] * 40, "Zed")], seed=seed)
        found = Counter(id.split("/")[0] for id in plan.test)
        assert found["Videos"] in (0, size, 2 * size) and 4 <= found["Clinic"] <= 8 and found["Zed"] == 4


def test_a_hold_out_of_a_tenth_is_80_10_10():
    (fold,) = make_plan("holdout", [SINGLES], seed=0).folds
    assert (len(fold.train), len(fold.val), len(fold.test)) == (48, 6, 6)
    (fold,) = make_plan("holdout", [SINGLES], seed=0, holdout=0.2).folds
    assert (len(fold.train), len(fold.val), len(fold.test)) == (36, 12, 12)


RECORDED = {
    "five-fold": "714770c6574dfa6ed5c064faef6ec1ab",
    "k-fold:3": "8a82becab913048b9775a2aa5db5ff1e",
    "repeated:3x4": "1880665b4f8e93902f2f5281c83d9e11",
    "cross-dataset": "703d907dcc40a2beb93ec07d9e2e1c5a",
    "holdout": "825309cae0788d463c9e16155116fbee",
    "leave-one-center-out": "d4984e999200eae1e5d289febf9ac606",
    "leave-one-dataset-out": "020a797fc60b43adf3b3a08281156c23",
}


@pytest.mark.parametrize("splits", EVERY)
def test_a_plan_is_the_same_on_every_machine(splits: str):
    assert plan_of(splits, FIXED).digest == RECORDED[splits]


@pytest.mark.parametrize("splits", EVERY)
def test_another_seed_makes_another_plan(splits: str):
    assert plan_of(splits, FIXED, seed=1).test != plan_of(splits, FIXED, seed=0).test


def test_the_first_of_several_draws_is_the_plain_one_and_no_fold_comes_twice():
    plan = make_plan("repeated:4x3", [VIDEOS], seed=5)
    assert [fold.name for fold in plan.folds[:4]] == [
        "repeat 0 fold 0", "repeat 0 fold 1", "repeat 0 fold 2", "repeat 1 fold 0",
    ]  # fmt: skip
    assert [fold.val for fold in plan.folds[:3]] == [
        fold.val for fold in make_plan("k-fold:3", [VIDEOS], seed=5).folds
    ]
    assert len({fold.val for fold in plan.folds}) == 12


def test_repeats_that_could_only_draw_the_same_folds_are_refused():
    with pytest.raises(
        BadSplit, match=r"2 repeats of 5 folds: .* of 5 groups there are at most 1; use fewer"
    ):
        make_plan("repeated:2x5", [dataset([[0.1]] * 5)], seed=0, holdout=0)


def test_the_name_says_the_kind_and_when_groups_are_unknown():
    assert five_fold([VIDEOS], seed=2).name == "five-fold-seed2"
    assert five_fold([SINGLES], seed=0).name == "five-fold-by-image-seed0"
    assert five_fold([SINGLES], seed=0, num_folds=3).name == "3-fold-by-image-seed0"
    assert five_fold([SINGLES], seed=0, near_duplicates=[]).name == "five-fold-by-near-duplicates-seed0"
    assert five_fold([VIDEOS], seed=0, near_duplicates=[]).name == "five-fold-seed0"
    assert make_plan("repeated:2x5", [VIDEOS], seed=1).name == "repeated-2x5-seed1"
    assert make_plan("leave-one-center-out", [CENTERS], seed=1).name == "leave-one-center-out-seed1"


def test_a_dataset_without_centers_is_one_center():
    plan = make_plan("leave-one-center-out", [VIDEOS, CENTERS], seed=0, holdout=0)
    assert [fold.name for fold in plan.folds] == [
        "center Clinic", "center Gen/C1", "center Gen/C2", "center Gen/C3",
    ]  # fmt: skip
    assert set(plan.folds[0].val) == {case.id for case in VIDEOS.cases}


def test_centers_of_some_cases_only_are_refused_with_their_number():
    some = dataset([[0.1]] * 9, centers=("C1", "C2", None))
    with pytest.raises(BadSplit, match=r"Clinic: expected a center .* found 3 of 9 cases without one"):
        make_plan("leave-one-center-out", [some], seed=0)


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ("ten-fold", "--splits: needs five-fold, k-fold:N, .* or the JSON file of a split, found 'ten-fold'"),
        ("k-fold:1", "expected at least 2 folds, found 1"),
        ("repeated:0x5", "expected at least 1 repeat, found 0"),
        ("k-fold:-3", "needs five-fold"),
        ("cross-dataset", "name it with --unseen, or use leave-one-dataset-out"),
        ("leave-one-center-out", r"expected at least 2 centers, found 1 \(Clinic\); .* use five-fold"),
        ("leave-one-dataset-out", r"expected at least 2 datasets, found 1 \(Clinic\)"),
    ],
)
def test_what_cannot_be_split_so_is_refused_with_what_would_work(splits: str, said: str):
    with pytest.raises(BadSplit, match=said):
        make_plan(splits, [VIDEOS], seed=0)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_one_fold_needs_a_share_for_test_and_for_validation(share: float):
    with pytest.raises(BadSplit, match=r"above 0 and below 0.5"):
        make_plan("holdout", [VIDEOS], seed=0, holdout=share)


def test_too_few_groups_are_refused_with_what_would_work():
    with pytest.raises(BadSplit, match="found 4; up to 3 folds"):
        five_fold([dataset([[0.1, 0.2]] * 4)], seed=0)
    chained = [(f"Clinic/{g}-0", f"Clinic/{g + 1}-0") for g in range(15)]
    with pytest.raises(BadSplit, match="found 5; up to 4 folds"):
        five_fold([VIDEOS], seed=0, near_duplicates=chained)


def test_a_center_of_which_nothing_can_be_validated_is_refused():
    near_duplicates = [(f"Gen/{g}-0", "Clinic/0-0") for g in range(0, 9, 3)]
    with pytest.raises(
        BadSplit, match=r"center Gen/C1: .* found \d+ and 0, with 6 dropped \(twin in training\)"
    ):
        make_plan(
            "leave-one-center-out", [VIDEOS, CENTERS], seed=0, holdout=0, near_duplicates=near_duplicates
        )


def test_an_unseen_dataset_that_training_knows_all_of_is_refused():
    far = dataset([[0.1]] * 2, "Far")
    near_duplicates = [("Clinic/0-0", "Far/0-0"), ("Clinic/7-0", "Far/1-0")]
    with pytest.raises(BadSplit, match="unseen dataset Far: each of its 2 cases has a near-duplicate"):
        five_fold([VIDEOS], seed=0, unseen=[far], near_duplicates=near_duplicates)


def test_every_mistake_in_what_is_asked_comes_at_once():
    pair = replace(VIDEOS, name="Twin")
    with pytest.raises(BadSplit) as error:
        five_fold([VIDEOS], seed=0, holdout=1.5, num_folds=1, unseen=[pair, VIDEOS])
    assert len(error.value.problems) == 4
    with pytest.raises(BadSplit) as error:
        make_plan(
            "cross-dataset",
            [VIDEOS],
            seed=0,
            holdout=-1,
            near_duplicates=[("Clinic/0-0", "x/1"), ("x/1", "y/2")],
        )
    assert len(error.value.problems) == 4
