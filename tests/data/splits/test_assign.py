"""Folds of few groups: other seeds and repeats give others, as even, wherever there are any."""

from __future__ import annotations

from itertools import product

import pytest
from case_datasets import SEQUENCES, VIDEOS, dataset, groups_of

from orchestrator.common.errors import BadSplit
from orchestrator.data.splits.assign import assign_groups
from orchestrator.data.splits.balance import Balance, Group
from orchestrator.data.splits.plan import make_plan

Partition = frozenset[frozenset[str]]


def partition(parts: list[list[Group]]) -> Partition:
    return frozenset(frozenset(group.id for group in part) for part in parts)


def imbalance(parts: list[list[Group]]) -> float:
    balance = Balance([group for part in parts for group in part], len(parts))
    return balance.imbalance(balance.loads(parts))


@pytest.mark.parametrize(("sizes", "least"), [(SEQUENCES, 38), ((6,) * 10, 36), ((6,) * 7, 25)])
def test_forty_seeds_give_almost_as_many_splits_of_few_groups(sizes, least):
    groups = groups_of(sizes)
    assert len({partition(assign_groups(groups, 5, seed)) for seed in range(40)}) >= least


def test_parts_of_every_seed_are_far_more_even_than_chance_makes_them():
    for sizes in (SEQUENCES, tuple(range(1, 61))):
        found = [assign_groups(groups_of(sizes), 5, seed) for seed in range(10)]
        assert max(map(imbalance, found)) < 0.1
        for parts in found:
            counts = [sum(len(group.cases) for group in part) for part in parts]
            assert max(counts) - min(counts) <= 0.2 * sum(counts) / 5


def test_a_part_that_is_unwanted_does_not_come_again():
    groups = groups_of((1,) * 60 + (20,))
    before = partition(assign_groups(groups, 5, 0))
    again = assign_groups(groups, 5, 1, unwanted=before)
    assert not partition(again) & before
    assert max(sum(len(group.cases) for group in part) for part in again) <= 22


@pytest.mark.parametrize("splits", ["repeated:2x5", "repeated:5x5", "repeated:4x3"])
def test_repeats_of_fifteen_sequences_or_around_one_long_video_share_no_fold(splits: str):
    for sizes in (SEQUENCES, (1,) * 85 + (25,)):
        plan = make_plan(splits, [dataset([[0.1] * size for size in sizes])], seed=0)
        assert len({fold.val for fold in plan.folds}) == len(plan.folds)


def test_two_repeats_are_refused_only_where_every_pair_of_partitions_shares_a_fold():
    for num_groups, num_folds in product(range(3, 8), (2, 3, 4)):
        if num_groups < num_folds:
            continue
        data = dataset([[0.1]] * num_groups)
        try:
            make_plan(f"repeated:2x{num_folds}", [data], seed=0, holdout=0)
            is_found = True
        except BadSplit:
            is_found = False
        assert is_found == _has_two_apart(num_groups, num_folds)


def _has_two_apart(num_groups: int, num_folds: int) -> bool:
    """By looking at all partitions; sizes may differ by one group, which is the largest."""
    ways = set()
    for places in product(range(num_folds), repeat=num_groups):
        parts = [frozenset(g for g, p in enumerate(places) if p == part) for part in range(num_folds)]
        if max(map(len, parts)) - min(map(len, parts)) <= 1:
            ways.add(frozenset(parts))
    return any(not one & other for one in ways for other in ways)


def test_the_plain_folds_are_the_first_repeat_where_repeats_are_possible_at_once():
    plain = make_plan("five-fold", [VIDEOS], seed=4)
    twice = make_plan("repeated:2x5", [VIDEOS], seed=4)
    assert [fold.val for fold in twice.folds[:5]] == [fold.val for fold in plain.folds]
