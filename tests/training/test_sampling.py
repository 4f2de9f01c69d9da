from collections import Counter
from pathlib import Path

import pytest
from drawn import CPU, drawn_cases, drawn_fit, learned, train

from orchestrator.common.errors import BadMachine
from orchestrator.data.cases import Case
from orchestrator.training import workers
from orchestrator.training.batches import GlobalBatches, TrainingBatches
from orchestrator.training.recipe import FitSpec
from orchestrator.training.sampling import balanced_keys, class_of, sampling_problem

CLASSES = {"A": [f"a{n}" for n in range(14)], "B": ["b0", "b1"], "C": [f"c{n}" for n in range(4)]}


def a_case(name: str, center: str | None = None, area: float = 0.1, dataset: str = "D") -> Case:
    return Case(name, dataset, name, center, Path("i.png"), Path("m.png"), 8, 8, area, "")


def of_class(keys) -> Counter:
    return Counter(case_id[0].upper() for _, case_id in keys)


def test_every_class_has_an_equal_share_of_an_epoch_as_long_as_the_plain_one():
    shares = [of_class(balanced_keys(CLASSES, 0, epoch)) for epoch in range(3)]
    assert [sum(share.values()) for share in shares] == [20] * 3
    assert {n for share in shares for n in share.values()} == {6, 7}
    assert sum(shares, Counter()) == {"A": 20, "B": 20, "C": 20}


def test_a_case_that_comes_again_in_an_epoch_is_augmented_anew():
    keys = balanced_keys(CLASSES, 0, 1)
    assert of_class(keys)["B"] > 2 and len(set(keys)) == len(keys)


def test_all_cases_of_a_class_come_before_any_comes_again():
    epochs = [[case_id for _, case_id in balanced_keys(CLASSES, 0, epoch)] for epoch in range(21)]
    times = Counter(case_id for epoch in epochs for case_id in epoch)
    assert {times[one] for one in CLASSES["A"]} == {10} and {times[one] for one in CLASSES["B"]} == {70}
    assert len({frozenset(epoch) for epoch in epochs}) == 21


def test_an_epoch_follows_from_seed_and_epoch_alone():
    assert balanced_keys(CLASSES, 3, 5) == balanced_keys(dict(reversed(CLASSES.items())), 3, 5)
    assert balanced_keys(CLASSES, 3, 5) != balanced_keys(CLASSES, 4, 5)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_workers_share_the_batches_of_one(monkeypatch, width):
    ids = [one for ids in CLASSES.values() for one in ids]
    whole = list(GlobalBatches(ids, 4, 0, CLASSES))
    monkeypatch.setattr(workers, "size", lambda: width)
    parts = []
    for rank in range(width):
        monkeypatch.setattr(workers, "rank", lambda rank=rank: rank)
        parts.append(list(GlobalBatches(ids, 4, 0, CLASSES)))
    joined = [sorted(key for part in step for key in part) for step in zip(*parts, strict=True)]
    assert joined == [sorted(batch) for batch in whole]


def test_without_classes_the_order_is_that_of_earlier_versions():
    first, *_ = GlobalBatches([f"c{n}" for n in range(8)], 8, 7)
    assert [case_id for _, case_id in first] == ["c0", "c6", "c7", "c2", "c4", "c5", "c1", "c3"]


def test_a_dataset_without_centers_is_one_center_beside_others():
    named, other = a_case("1", center="Oslo"), a_case("2", dataset="E")
    assert [class_of(case, "centers") for case in (named, other)] == ["D/Oslo", "E"]
    assert sampling_problem("centers", [named, other]) is None


def test_what_cannot_be_balanced_is_refused_in_words():
    one = sampling_problem("centers", [a_case("1"), a_case("2")])
    assert (
        one is not None and "needs training cases of two centers or datasets, found those of D alone" in one
    )
    full = sampling_problem("presence", [a_case("1"), a_case("2")])
    assert full is not None and full.endswith("found only frames with a polyp")
    assert sampling_problem("presence", [a_case("1"), a_case("2", area=0.0)]) is None
    assert sampling_problem("cases", [a_case("1")]) is None


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return drawn_cases(tmp_path_factory.mktemp("home"))


def with_empty_frames(cases, **recipe) -> FitSpec:
    spec = drawn_fit(cases, sampling="presence", **recipe)
    empty = tuple(case.id for case in cases.datasets[0].cases if not case.polyp_fraction)
    return spec.model_copy(update={"train": (*spec.train[:7], empty[0])})


def test_half_of_the_frames_of_an_epoch_show_a_polyp(cases):
    spec = with_empty_frames(cases)
    batches = TrainingBatches(cases, spec.train, spec.recipe, 16, CPU, 0)
    shown = [bool(mask.any()) for epoch in range(2) for _, masks in batches.epoch(epoch) for mask in masks]
    assert shown.count(False) == len(shown) / 2 == 8


def test_a_balanced_fit_that_was_stopped_and_resumed_ends_like_an_undisturbed_one(cases, tmp_path):
    spec = with_empty_frames(cases)
    undisturbed = train(spec, cases, tmp_path / "undisturbed")
    assert train(spec, cases, tmp_path / "parts", report=lambda row: row["epoch"] < 1) is None
    assert learned(train(spec, cases, tmp_path / "parts")) == learned(undisturbed)


def test_a_fit_whose_cases_cannot_be_balanced_is_refused(cases, tmp_path):
    with pytest.raises(BadMachine, match="found only frames with a polyp"):
        train(drawn_fit(cases, sampling="presence"), cases, tmp_path)
