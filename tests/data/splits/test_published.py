"""The split that a dataset was published with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from case_datasets import dataset

from orchestrator.common.errors import BadSplit
from orchestrator.data.cases import Dataset
from orchestrator.data.published.parts import role_of
from orchestrator.data.splits.plan import make_plan
from orchestrator.data.splits.proportions import listed_reasons
from orchestrator.data.splits.resplit import resplit
from orchestrator.data.splits.split_plan import SplitPlan


def published(*parts: str, name: str = "Clinic") -> Dataset:
    """A dataset with one group for each of these parts, of two cases."""
    made = dataset([[0.1, 0.2]] * len(parts), name=name)
    part_of = dict(zip(sorted({case.group for case in made.cases}), parts, strict=True))
    return replace(made, cases=tuple(replace(case, part=part_of[case.group]) for case in made.cases))


def plan(*sources: Dataset, near_duplicates: Sequence[tuple[str, str]] | None = None) -> SplitPlan:
    return make_plan("published", sources, seed=3, holdout=0.5, near_duplicates=near_duplicates)


def test_parts_are_trained_validated_and_tested_on_as_published():
    found = plan(published("TrainDataset", "TrainDataset", "val", "TestHardDataset/Unseen"))
    (fold,) = found.folds
    assert (len(fold.train), len(fold.val), len(found.test)) == (4, 2, 2)
    assert found.name == "published" and found.seed is None and found.dropped == {}


def test_without_a_validation_part_the_training_part_is_split_into_five_folds():
    found = plan(published(*["train"] * 6, "test", "test"))
    assert len(found.folds) == 5 and len(found.test) == 4 and found.name == "published-seed3"
    assert {id for fold in found.folds for id in fold.val} == set(found.folds[0].train) | set(
        found.folds[0].val
    )
    assert all(not set(fold.train) & set(found.test) for fold in found.folds)


def test_a_second_split_of_a_published_plan_keeps_its_test():
    source = published(*["train"] * 12, "test")
    found = plan(source)
    again = resplit(found, [source], [])
    assert again.test == found.test and again.folds != found.folds
    assert (
        resplit(plan(published("train", "val", "test")), [published("train", "val", "test")], []).seed is None
    )


def test_cases_tied_to_training_are_dropped_from_validation_and_test_with_the_reason():
    source = published("train", "train", "val", "val", "test", "test")
    straddling = replace(source.cases[0], id="Clinic/z", part="test")
    source = replace(source, cases=(*source.cases, straddling))
    near = [case.id for case in source.cases if case.part == "val"][:1]
    found = plan(source, near_duplicates=[(source.cases[0].id, near[0])])
    assert found.dropped["group in training"] == ("Clinic/z",)
    assert len(found.dropped["twin in training"]) == 2 and len(found.test) == 4
    assert len(found.folds[0].val) == 2 and near[0] not in found.folds[0].val


def test_a_validation_part_that_is_tied_to_training_as_a_whole_is_refused():
    source = published("train", "val", "test")
    with pytest.raises(BadSplit, match=r"to validate, found none; 2 dropped \(twin in training\)"):
        plan(source, near_duplicates=[(source.cases[0].id, source.cases[2].id)])


def test_a_test_part_that_is_tied_to_training_as_a_whole_is_refused():
    source = published("train", "val", "test")
    with pytest.raises(BadSplit, match=r"can test nothing: 2 dropped \(twin in training\)"):
        plan(source, near_duplicates=[(source.cases[0].id, source.cases[4].id)])


def test_cases_of_no_part_are_dropped_and_counted():
    found = plan(published("train", "val", "test", "extra"))
    assert len(found.dropped["in no published part"]) == 2


def test_datasets_without_published_parts_are_named():
    with pytest.raises(BadSplit, match=r"parts of Far to train and to test on, found none"):
        plan(published("train", "test"), dataset([[0.1]] * 3, name="Far"))


@pytest.mark.parametrize(
    ("part", "role"),
    [
        ("TrainDataset", "train"),
        ("TestHardDataset/Unseen", "test"),
        ("piccolo/validation", "val"),
        ("Tr", "train"),
        ("test-data/train", "train"),
        ("TrainValid", ""),
        ("CVC-300", ""),
        ("testimony", ""),
        ("", ""),
    ],
)
def test_the_name_of_a_part_says_what_it_is_for(part, role):
    assert role_of(part) == role


def test_messages_speak_of_near_duplicates():
    assert listed_reasons({"twin in training": 3, "group in training": 1}) == (
        "3 (near-duplicate in training), 1 (group in training)"
    )
