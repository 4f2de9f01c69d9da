"""Evenness of a partition of groups, and a seeded random walk to other partitions that are as even.

Arithmetic is Python's own, sums are exact (fsum), and random numbers come from `random.Random.random`, whose sequence
no version changes: the same seed gives the same walk on every machine.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import fsum, inf
from random import Random

STEPS = 20  # of a walk, per group
ROUNDS = 5  # of a walk away from unwanted parts; each may be less even than the one before


@dataclass(frozen=True)
class Group:
    """Cases that stay together, and the quantities that are balanced over the parts."""

    id: str
    cases: tuple[str, ...]  # ids, sorted
    num_empty: int  # cases without a polyp
    area: float  # sum of polyp fractions
    num_by_origin: tuple[int, ...]  # dataset or center; a group may span several

    @property
    def load(self) -> tuple[float, ...]:
        return (len(self.cases), self.num_empty, self.area, *self.num_by_origin)


@dataclass(frozen=True)
class UnevennessLimit:
    """Bounds on the unevenness of a partition."""

    imbalance: float
    cases: float  # largest difference between two parts
    empty: float  # the same for cases without a polyp

    def wider(self, round: int, largest: float) -> UnevennessLimit:
        """Bounds that double with each round; in the last round parts may differ by the largest group."""
        if round == ROUNDS - 1:
            return UnevennessLimit(inf, max(self.cases, largest), inf)
        cases = max(self.cases, largest * round / (ROUNDS - 1))
        return UnevennessLimit(self.imbalance * 2**round, cases, self.empty + round)


class Balance:
    """Measures of evenness over a number of parts; a column is one quantity of `Group.load`."""

    def __init__(self, groups: Sequence[Group], num_parts: int) -> None:
        columns = list(zip(*(group.load for group in groups), strict=True))
        self.num_parts = num_parts
        self.totals = [fsum(column) or 1.0 for column in columns]
        self.largest = max(columns[0])
        by_chance = [
            (1 - 1 / num_parts) * fsum((load / total) ** 2 for load in column)
            for column, total in zip(columns, self.totals, strict=True)
        ]
        self.columns = [(place, chance) for place, chance in enumerate(by_chance) if chance > 0]

    def loads(self, parts: Sequence[Sequence[Group]]) -> list[list[float]]:
        """The sum of each column, part by part."""
        return [[fsum(group.load[c] for group in part) for c in range(len(self.totals))] for part in parts]

    def imbalance(self, loads: Sequence[Sequence[float]]) -> float:
        """Variance of the parts' shares relative to that of a random assignment of groups, mean over columns.

        0: all parts are equal; 1: as uneven as a random assignment.
        """
        return fsum(
            fsum((load[place] / self.totals[place] - 1 / self.num_parts) ** 2 for load in loads) / chance
            for place, chance in self.columns
        ) / max(1, len(self.columns))

    def unevenness(self, loads: Sequence[Sequence[float]]) -> UnevennessLimit:
        """The tightest bounds that these parts keep."""
        cases, empty, *_ = map(_spread, zip(*loads, strict=True))
        return UnevennessLimit(self.imbalance(loads), cases, empty)

    def is_within(self, loads: Sequence[Sequence[float]], limit: UnevennessLimit) -> bool:
        """Whether parts with these loads keep the bounds."""
        columns = zip(*loads, strict=True)
        if _spread(next(columns)) > limit.cases or _spread(next(columns)) > limit.empty:
            return False
        return self.imbalance(loads) <= limit.imbalance


class RandomWalk:
    """Random moves and exchanges of groups between parts within bounds; no part becomes empty."""

    def __init__(self, balance: Balance, parts: Sequence[Sequence[Group]], seed: str) -> None:
        self.balance = balance
        self.parts = [list(part) for part in parts]
        self.loads = balance.loads(parts)
        self.chance = Random(seed).random
        self.num_groups = sum(map(len, parts))

    def run(self, limit: UnevennessLimit) -> None:
        """Take STEPS steps per group within the bounds."""
        for _ in range(STEPS * self.num_groups):
            self._step(limit)

    def avoid(self, unwanted: Collection[frozenset[str]], limit: UnevennessLimit) -> list[list[Group]]:
        """The first partition found without a part (a set of group ids) in `unwanted`, else the one with the fewest.

        Bounds widen round by round, up to the largest group: parts of a greedy partition never differ by more.
        """
        fewest, best = self._num_of(unwanted), self._copy()
        for round in range(ROUNDS):
            wider = limit.wider(round, self.balance.largest)
            for _ in range(STEPS * self.num_groups):
                if not fewest:
                    return best
                if self._step(wider) and (number := self._num_of(unwanted)) < fewest:
                    fewest, best = number, self._copy()
        return best

    def _step(self, limit: UnevennessLimit) -> bool:
        """Try to exchange a group for one of another part, or to move it there; return whether this was done."""
        one, other = self._drawn(len(self.parts)), self._drawn(len(self.parts) - 1)
        other += other >= one
        here, there = self.parts[one], self.parts[other]
        if not here:
            return False
        place, taken = self._drawn(len(here)), self._drawn(len(there) + 1)
        is_move = taken == len(there)
        if is_move and len(here) == 1:
            return False
        back = [0.0] * len(self.balance.totals) if is_move else there[taken].load
        moved = [a - b for a, b in zip(here[place].load, back, strict=True)]
        loads = list(self.loads)
        loads[one] = [a - b for a, b in zip(loads[one], moved, strict=True)]
        loads[other] = [a + b for a, b in zip(loads[other], moved, strict=True)]
        if not self.balance.is_within(loads, limit):
            return False
        self.loads = loads
        if is_move:
            there.append(here.pop(place))
        else:
            here[place], there[taken] = there[taken], here[place]
        return True

    def _drawn(self, number: int) -> int:
        return int(self.chance() * number)

    def _copy(self) -> list[list[Group]]:
        return [list(part) for part in self.parts]

    def _num_of(self, unwanted: Collection[frozenset[str]]) -> int:
        if not unwanted:
            return 0
        return sum(frozenset(group.id for group in part) in unwanted for part in self.parts)


def _spread(numbers: Sequence[float]) -> float:
    return max(numbers) - min(numbers)
