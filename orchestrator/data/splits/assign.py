"""Assignment of groups of cases to a hold-out and folds: balanced, seeded, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from math import fsum
from random import Random
from statistics import median_high

from orchestrator.data.cases import Case
from orchestrator.data.splits.balance import Balance, Group, RandomWalk, UnevennessLimit

NUM_SIZES = 4  # classes of polyp area that are balanced, in addition to polyp-free
MOST_PARTS = 100  # from which a hold-out is drawn
MOST_HELD_OUT = 0.5  # of all cases: a larger group is never held out
CANDIDATES = 8  # partitions to choose from, where groups are few
FEW = 100  # groups up to which several partitions are tried: few are even, and each seed is to have its own


def merge(cases: Iterable[Case], near_duplicates: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Case id -> group. Groups connected by near-duplicates (pairs of case ids) are merged, named by the first."""
    return tie({case.id: case.group for case in cases}, near_duplicates)


def tie(group_of: Mapping[str, str], near_duplicates: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Key -> group, with groups of `group_of` merged, named by the first, where a pair connects them."""
    parent = {group: group for group in group_of.values()}

    def first(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for one, other in near_duplicates:
        low, high = sorted((first(group_of[one]), first(group_of[other])))
        parent[high] = low
    return {id: first(group) for id, group in group_of.items()}


def gather(cases: Iterable[Case], group_of: Mapping[str, str], origin_of: Mapping[str, str]) -> list[Group]:
    """Groups of these cases, sorted by id. `origin_of`: case id -> dataset or center."""
    members: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.id):
        members.setdefault(group_of[case.id], []).append(case)
    origins = sorted({origin_of[case.id] for group in members.values() for case in group})
    return [
        Group(
            id=id,
            cases=tuple(case.id for case in group),
            num_empty=sum(case.polyp_fraction == 0 for case in group),
            area=fsum(case.polyp_fraction for case in group),
            num_by_origin=tuple(sum(origin_of[case.id] == name for case in group) for name in origins),
        )
        for id, group in sorted(members.items())
    ]


def hold_out(
    groups: Sequence[Group], share: float, seed: int, *, keep: int
) -> tuple[list[Group], list[Group]]:
    """Split groups into (held out, rest); every group has the same chance, about `share`, to be held out.

    Groups are assigned to parts that are alike in cases, origins, polyp area and polyp-free cases; the seed draws one
    part of 1 / share (for 15 %, three of twenty), so each case is tested with the probability `share`, whatever the
    size of its group: cluster sampling with equal inclusion probabilities (Tillé, Sampling Algorithms, 2006). The
    number of cases is as close to the share as groups allow: one part differs from it by no more than the largest
    group. At least one group is held out if share > 0: of fewer than 1 / share groups each has the chance 1 / number. A
    group of more than half of all cases is never held out, and fewer groups are held out where fewer than `keep` would
    remain.
    """
    if share == 0:
        return [], list(groups)
    num_cases = sum(len(group.cases) for group in groups)
    able = [group for group in groups if len(group.cases) <= MOST_HELD_OUT * num_cases] or list(groups)
    drawn = Fraction(share).limit_denominator(min(len(able), MOST_PARTS)) or Fraction(1, len(able))
    parts = _evenest(able, drawn.denominator, f"{seed}.holdout")
    order = sorted(range(len(parts)), key=lambda place: _digest(f"{seed}.holdout part {place}"))
    taken = [group for place in order[: drawn.numerator] for group in parts[place]]
    taken = _shuffled(taken, seed)[: max(1, len(groups) - keep)]
    ids = {group.id for group in taken}
    return taken, [group for group in _shuffled(groups, seed) if group.id not in ids]


def assign_groups(
    groups: Sequence[Group],
    num_parts: int,
    seed: int | str,
    *,
    unwanted: Collection[frozenset[str]] = (),
) -> list[list[Group]]:
    """Assign groups to parts that are alike; another seed gives other parts wherever equally even ones exist.

    Of several greedy partitions the most even is taken; where groups are few, groups are then exchanged at random, as
    long as parts stay as even as the median of these partitions. Then parts in `unwanted` (sets of group ids) are
    avoided: as few of them as possible occur again.
    Parts differ in their number of cases by no more than the largest group.
    """
    found = _candidates(groups, num_parts, str(seed), CANDIDATES)
    balance = Balance(groups, num_parts)
    uneven = [balance.unevenness(balance.loads(parts)) for parts in found]
    best = min(range(len(found)), key=lambda place: uneven[place].imbalance)
    limit = UnevennessLimit(
        median_high(one.imbalance for one in uneven),
        max(uneven[best].cases, median_high(one.cases for one in uneven)),
        max(uneven[best].empty, median_high(one.empty for one in uneven)),
    )
    walk = RandomWalk(balance, found[best], f"{seed}.walk")
    if len(groups) <= FEW:
        walk.run(limit)
    return walk.avoid(unwanted, limit)


def _evenest(groups: Sequence[Group], num_parts: int, seed: str) -> list[list[Group]]:
    """The most even of several greedy partitions, with and without a quota: without it, origins of single images spread
    better where other origins have groups as large as a part."""
    balance = Balance(groups, num_parts)
    half = CANDIDATES // 2
    found = _candidates(groups, num_parts, seed, half) + _candidates(groups, num_parts, seed, half, False)
    uneven = [(balance.unevenness(balance.loads(parts)), parts) for parts in found]
    able = [pair for pair in uneven if pair[0].cases <= balance.largest]
    return min(able, key=lambda pair: pair[0].imbalance)[1]


def _candidates(
    groups: Sequence[Group], num_parts: int, seed: str, number: int, is_limited: bool = True
) -> list[list[list[Group]]]:
    """Greedy partitions in different orders; only one of many groups, whose order hardly affects balance."""
    tries = range(number if len(groups) <= FEW else 1)
    return [_greedy_partition(groups, num_parts, f"{seed}.{attempt}", is_limited) for attempt in tries]


def _greedy_partition(
    groups: Sequence[Group], num_parts: int, seed: str, is_limited: bool
) -> list[list[Group]]:
    """Assign large groups first, each to the open part with the smallest load in the quantities of the group.

    A part is open until it has its share of cases; without the quota every part is open.
    Sizes are blurred by up to a factor of two, so that groups of similar size come in another order for another seed.
    """
    strata, chance = _strata(groups), Random(seed).random
    blurred = {
        group.id: int(len(group.cases) * (1 + chance())) for group in sorted(groups, key=lambda g: g.id)
    }
    order = sorted(_shuffled(groups, seed), key=lambda g: (-blurred[g.id].bit_length(), strata[g.id]))
    total = [fsum(column) or 1.0 for column in zip(*(group.load for group in groups), strict=True)]
    num_cases = sum(len(group.cases) for group in groups)
    quota = num_cases // num_parts if is_limited else num_cases
    parts: list[list[Group]] = [[] for _ in range(num_parts)]
    counts = [0] * num_parts
    loads = [[0.0] * len(total) for _ in range(num_parts)]
    for group in order:
        open_parts = [part for part in range(num_parts) if counts[part] + len(group.cases) <= quota]
        weights = [load / whole**2 for load, whole in zip(group.load, total, strict=True)]
        overlap = {
            part: fsum(a * b for a, b in zip(loads[part], weights, strict=True)) for part in open_parts
        }
        chosen = min(open_parts, key=overlap.__getitem__) if open_parts else counts.index(min(counts))
        parts[chosen].append(group)
        counts[chosen] += len(group.cases)
        loads[chosen] = [a + b for a, b in zip(loads[chosen], group.load, strict=True)]
    return parts


def _shuffled(groups: Iterable[Group], seed: int | str) -> list[Group]:
    """Groups in an order that follows from a hash, which no library version changes."""
    return sorted(groups, key=lambda group: _digest(f"{seed} {group.id}"))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _strata(groups: Sequence[Group]) -> dict[str, int]:
    """Group id -> class: 0 with polyp-free cases, then 1 to NUM_SIZES by mean polyp area, of equal size."""
    sized = sorted((g for g in groups if not g.num_empty), key=lambda g: (g.area / len(g.cases), g.id))
    classes = {group.id: 1 + rank * NUM_SIZES // len(sized) for rank, group in enumerate(sized)}
    return {group.id: classes.get(group.id, 0) for group in groups}
