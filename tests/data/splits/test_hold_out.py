"""Who is held out: every group as often as every other, over seeds, and about as many cases as was asked."""

from __future__ import annotations

from collections import Counter

import pytest
from case_datasets import SEQUENCES, dataset, groups_of
from split_plans import five_fold

from orchestrator.data.splits.assign import hold_out
from orchestrator.data.splits.balance import Group

SEEDS = 300
WORLDS = {
    "15 sequences of 5 to 55": SEQUENCES,
    "1 to 60": tuple(range(1, 61)),
    "single images and a video": (1,) * 60 + (20,),
    "six": (8,) * 6,
}


def draws(sizes: tuple[int, ...], share: float) -> list[list[Group]]:
    groups = groups_of(sizes)
    return [hold_out(groups, share, seed, keep=min(5, len(groups) - 1))[0] for seed in range(SEEDS)]


@pytest.mark.parametrize(
    "world", [pytest.param(name, marks=pytest.mark.slow if len(WORLDS[name]) > 50 else ()) for name in WORLDS]
)
def test_a_case_has_the_same_chance_to_be_held_out_whatever_the_size_of_its_group(world: str):
    sizes, found = WORLDS[world], draws(WORLDS[world], 0.1)
    times = Counter(group.id for taken in found for group in taken)
    chance = max(0.1, 1 / len(sizes))
    error = (chance * (1 - chance) / SEEDS) ** 0.5
    assert max(abs(times[f"Clinic/g{g}"] / SEEDS - chance) for g in range(len(sizes))) < 4 * error
    drawn = [sum(len(group.cases) for group in taken) for taken in found]
    spread = (sum((number - chance * sum(sizes)) ** 2 for number in drawn) / SEEDS) ** 0.5
    assert sum(drawn) / SEEDS == pytest.approx(chance * sum(sizes), abs=max(4 * spread / SEEDS**0.5, 1e-9))
    assert max(abs(number - chance * sum(sizes)) for number in drawn) <= max(sizes)


def test_a_share_that_is_no_part_of_one_is_several_parts():
    groups = groups_of((1,) * 60)
    assert {len(hold_out(groups, share, 0, keep=5)[0]) for share in (0.15, 0.35)} == {9, 21}
    assert len(hold_out(groups_of((1,) * 1000), 0.01, 0, keep=5)[0]) == 10


def test_a_group_of_more_than_half_of_all_cases_is_never_held_out():
    groups = groups_of((80, *(1,) * 20))
    for seed in range(30):
        assert [len(group.cases) for group in hold_out(groups, 0.1, seed, keep=5)[0]] == [1, 1]


def test_as_many_groups_stay_as_folds_need():
    for seed in range(20):
        taken, rest = hold_out(groups_of((1,) * 8), 0.6, seed, keep=5)
        assert (len(taken), len(rest)) == (3, 5)


def test_the_hold_out_is_spread_over_sizes_of_polyps_and_datasets():
    areas = [0.0] * 40 + [0.01] * 40 + [0.3] * 40
    plan = five_fold([dataset([[area] for area in areas], "A"), dataset([[0.1]] * 60, "B")], seed=1)
    found = Counter((id.split("/")[0], int(id.split("/")[1].split("-")[0]) // 40) for id in plan.test)
    assert [found["A", third] for third in range(3)] == [4, 4, 4] and len(plan.test) == 18
