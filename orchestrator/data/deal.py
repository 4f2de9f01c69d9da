"""Deal groups of cases into a hold-out and folds: balanced, seeded, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from orchestrator.data.cases import Case

NUM_SIZES = 4  # classes of polyp area that are spread evenly, beside the polyp-free


@dataclass(frozen=True)
class Group:
    """Cases that stay together, and what is balanced over the parts."""

    id: str
    cases: tuple[str, ...]  # ids, sorted
    num_empty: int  # cases without a polyp
    area: float  # sum of polyp fractions
    num_by_origin: tuple[int, ...]  # dataset or center; a group may span several

    @property
    def load(self) -> tuple[float, ...]:
        return (len(self.cases), self.num_empty, self.area, *self.num_by_origin)


def merge(cases: Iterable[Case], twins: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Case id -> group. Groups that twins (pairs of case ids) tie together are one, named by the first of them."""
    return tie({case.id: case.group for case in cases}, twins)


def tie(group_of: Mapping[str, str], twins: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The same mapping, in which groups that are tied together by a pair of its keys are one."""
    parent = {group: group for group in group_of.values()}

    def first(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for one, other in twins:
        low, high = sorted((first(group_of[one]), first(group_of[other])))
        parent[high] = low
    return {id: first(group) for id, group in group_of.items()}


def gather(cases: Iterable[Case], group_of: Mapping[str, str], origin_of: Mapping[str, str]) -> list[Group]:
    """Groups by id; the order of the cases does not matter. `origin_of`: case id -> dataset or center."""
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
    """Part groups into (held out, rest): about `share` of the cases, and one group at least if share > 0.

    No second group is taken where fewer than `keep` would be left.

    Walks through origin after origin, size class after size class; takes a group when half of it is owed. What an
    origin owes still, the next one gives; what it gave too much, by a large group, spares the next one nothing.
    """
    if share == 0:
        return [], list(groups)
    strata = _strata(groups)
    walk = sorted(_shuffled(groups, seed), key=lambda g: (_main_origin(g), strata[g.id]))
    taken: list[Group] = []
    rest: list[Group] = []
    owed, origin = 0.0, None
    for group in walk:
        if origin != (origin := _main_origin(group)):
            owed = max(owed, -0.5)  # of a case
        owed += share * len(group.cases)
        if owed >= len(group.cases) / 2 and (not taken or len(groups) - len(taken) > keep):
            owed -= len(group.cases)
            taken.append(group)
        else:
            rest.append(group)
    if not taken:
        smallest = min(rest, key=lambda g: len(g.cases))
        taken.append(smallest)
        rest.remove(smallest)
    return taken, rest


def deal(groups: Sequence[Group], num_parts: int, seed: int | str) -> list[list[Group]]:
    """Large groups first, each to the part with room that has least of what the group brings.

    Numbers of cases differ between parts by no more than the largest group.
    """
    strata = _strata(groups)
    order = sorted(_shuffled(groups, seed), key=lambda g: (-len(g.cases).bit_length(), strata[g.id]))
    total = [fsum(column) or 1.0 for column in zip(*(group.load for group in groups), strict=True)]
    quota = sum(len(group.cases) for group in groups) // num_parts
    parts: list[list[Group]] = [[] for _ in range(num_parts)]
    counts = [0] * num_parts
    loads = [[0.0] * len(total) for _ in range(num_parts)]
    for group in order:
        roomy = [part for part in range(num_parts) if counts[part] + len(group.cases) <= quota]
        weights = [load / whole**2 for load, whole in zip(group.load, total, strict=True)]
        overlap = [fsum(a * b for a, b in zip(load, weights, strict=True)) for load in loads]
        chosen = min(roomy, key=overlap.__getitem__) if roomy else counts.index(min(counts))
        parts[chosen].append(group)
        counts[chosen] += len(group.cases)
        loads[chosen] = [a + b for a, b in zip(loads[chosen], group.load, strict=True)]
    return parts


def _shuffled(groups: Iterable[Group], seed: int | str) -> list[Group]:
    """By hash, which no version of any library changes."""
    return sorted(groups, key=lambda group: hashlib.sha256(f"{seed} {group.id}".encode()).digest())


def _strata(groups: Sequence[Group]) -> dict[str, int]:
    """Class by group id: 0 with polyp-free cases, then 1 to NUM_SIZES by mean polyp area, as many each."""
    sized = sorted((g for g in groups if not g.num_empty), key=lambda g: (g.area / len(g.cases), g.id))
    classes = {group.id: 1 + rank * NUM_SIZES // len(sized) for rank, group in enumerate(sized)}
    return {group.id: classes.get(group.id, 0) for group in groups}


def _main_origin(group: Group) -> int:
    return group.num_by_origin.index(max(group.num_by_origin))
