from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data.cases import Case, Dataset
from orchestrator.data.splits import SplitPlan, five_fold, read_plan, write_plan
from orchestrator.errors import BadSplit


def case(dataset: str, stem: str, group: str, polyp_fraction: float) -> Case:
    return Case(
        id=f"{dataset}/{stem}",
        dataset=dataset,
        group=f"{dataset}/{group}",
        center=None,
        image=Path(f"{stem}.jpg"),
        mask=Path(f"{stem}.png"),
        height=8,
        width=8,
        polyp_fraction=polyp_fraction,
        sha256="",
    )


def dataset(groups: list[list[float]], name: str = "Clinic", groups_known: bool = True) -> Dataset:
    """One case for every polyp fraction."""
    cases = [
        case(name, f"{g}-{i}", f"g{g}", area)
        for g, areas in enumerate(groups)
        for i, area in enumerate(areas)
    ]
    return Dataset(name, Path(), tuple(cases), fingerprint=f"print of {name}", groups_known=groups_known)


SINGLES = dataset([[0.0 if i % 10 == 0 else i / 100] for i in range(60)], groups_known=False)
VIDEOS = dataset([[0.1 * (g % 5)] * (1 + g % 4) for g in range(20)])

areas = st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.5]), min_size=1, max_size=9)
datasets = st.lists(areas, min_size=6, max_size=30).map(dataset)


def group_of(*datasets: Dataset) -> dict[str, str]:
    return {case.id: case.group for dataset in datasets for case in dataset.cases}


@given(datasets, st.integers(0, 5))
def test_no_group_is_in_two_parts_of_a_fold(data, seed):
    groups = group_of(data)
    for fold in five_fold([data], seed=seed).folds:
        train, val, test = ({groups[id] for id in part} for part in (fold.train, fold.val, fold.test))
        assert not train & val and not train & test and not val & test


@given(datasets, st.integers(0, 5))
def test_every_case_is_held_out_or_validated_exactly_once_and_else_trained_on(data, seed):
    plan = five_fold([data], seed=seed)
    validated = Counter(id for fold in plan.folds for id in fold.val) + Counter(plan.test)
    assert validated == Counter(case.id for case in data.cases)
    for fold in plan.folds:
        assert sorted((*fold.train, *fold.val, *plan.test)) == sorted(validated)


@given(datasets, st.integers(2, 5))
def test_folds_differ_in_cases_by_no_more_than_the_largest_group(data, num_folds):
    counts = [len(fold.val) for fold in five_fold([data], seed=0, num_folds=num_folds).folds]
    assert min(counts) > 0
    assert max(counts) - min(counts) <= max(Counter(group_of(data).values()).values())


@given(datasets, st.randoms(use_true_random=False))
def test_the_order_of_cases_and_datasets_does_not_matter(data, random):
    other = dataset([[0.2], [0.3, 0.3]], name="Other")
    shuffled = replace(data, cases=tuple(random.sample(data.cases, len(data.cases))))
    assert five_fold([data, other], seed=1) == five_fold([other, shuffled], seed=1)


def test_single_images_are_dealt_evenly_with_a_fold_like_every_other():
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


def test_a_plan_is_the_same_on_every_machine():
    assert five_fold([VIDEOS], seed=0).digest == "a108cc29cad80b4d57464e89523f8ba9"


def test_another_seed_deals_other_folds():
    assert five_fold([VIDEOS], seed=0).folds != five_fold([VIDEOS], seed=1).folds


def test_the_name_says_when_groups_are_unknown():
    assert five_fold([VIDEOS], seed=2).name == "five-fold-seed2"
    assert five_fold([SINGLES], seed=0).name == "five-fold-by-image-seed0"
    assert five_fold([SINGLES], seed=0, num_folds=3).name == "3-fold-by-image-seed0"


def test_too_few_groups_are_refused_with_what_would_work():
    with pytest.raises(BadSplit, match="found 4; up to 3 folds"):
        five_fold([dataset([[0.1, 0.2]] * 4)], seed=0)


def test_every_mistake_in_what_is_asked_comes_at_once():
    twin = replace(VIDEOS, name="Twin")
    with pytest.raises(BadSplit) as error:
        five_fold([VIDEOS], seed=0, holdout=1.5, num_folds=1, unseen=[twin, VIDEOS])
    assert len(error.value.problems) == 4


@pytest.fixture
def written(tmp_path: Path) -> tuple[SplitPlan, Path]:
    plan = five_fold([VIDEOS], seed=0, unseen=[SINGLES_ELSEWHERE])
    write_plan(plan, tmp_path / "plans" / "split.json")
    return plan, tmp_path / "plans" / "split.json"


SINGLES_ELSEWHERE = dataset([[0.1]] * 3, name="Elsewhere")


def edited(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_a_plan_is_read_as_it_was_written(written):
    plan, path = written
    assert read_plan(path, [VIDEOS], [SINGLES_ELSEWHERE]) == plan
    assert [file.name for file in path.parent.iterdir()] == ["split.json"]


def test_a_plan_for_other_data_is_refused(written):
    _, path = written
    with pytest.raises(BadSplit, match="print of Clinic, found changed"):
        read_plan(path, [replace(VIDEOS, fingerprint="changed")], [SINGLES_ELSEWHERE])
    with pytest.raises(BadSplit, match="unseen dataset Elsewhere: the file splits it, but it was not named"):
        read_plan(path, [VIDEOS], [])


def test_a_case_that_is_gone_is_named(written):
    _, path = written
    shorter = replace(VIDEOS, cases=VIDEOS.cases[1:])
    with pytest.raises(BadSplit, match="Clinic/0-0: no dataset named here has this case"):
        read_plan(path, [shorter], [SINGLES_ELSEWHERE])


def test_a_group_that_straddles_is_named(written):
    plan, path = written
    merged = tuple(
        replace(c, group="one") if c.id in (plan.test[0], plan.folds[0].val[0]) else c for c in VIDEOS.cases
    )
    with pytest.raises(BadSplit, match="fold 0: group one is in val and in test"):
        read_plan(path, [replace(VIDEOS, cases=merged)], [SINGLES_ELSEWHERE])


def test_an_edited_plan_is_refused(written):
    _, path = written
    with pytest.raises(BadSplit, match="the file was edited"):
        read_plan(edited(path, seed=9), [VIDEOS], [SINGLES_ELSEWHERE])


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', "\x00"])
def test_a_file_that_is_no_plan_is_refused(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(BadSplit):
        read_plan(tmp_path / "split.json", [VIDEOS], [])
