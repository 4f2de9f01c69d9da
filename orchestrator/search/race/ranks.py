"""Trials in order: by number of folds, and by score."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator


class Ranks:
    """Trials by number of folds, within each the best first; a trial is placed by bisection."""

    def __init__(self) -> None:
        self.levels: dict[int, list[tuple[float, int]]] = {}  # number of folds -> minus worth, trial
        self.keys: dict[int, tuple[int, tuple[float, int]]] = {}
        self.is_known = False

    def clear(self) -> None:
        self.is_known = False

    def fill(self, trials: Iterable[tuple[int, int, float]]) -> None:
        """Rank these trials alone, given as (trial, number of folds, score)."""
        self.keys = {number: (folds, (-worth, number)) for number, folds, worth in trials}
        self.levels = {}
        for folds, key in self.keys.values():
            self.levels.setdefault(folds, []).append(key)
        for level in self.levels.values():
            level.sort()
        self.is_known = True

    def put(self, number: int, folds: int, worth: float) -> None:
        if number in self.keys:
            level, key = self.keys[number]
            del self.levels[level][bisect_left(self.levels[level], key)]
        self.keys[number] = folds, (-worth, number)
        insort(self.levels.setdefault(folds, []), (-worth, number))

    def count(self, at_least: int) -> int:
        """Number of trials with `at_least` folds or more."""
        return sum(len(level) for folds, level in self.levels.items() if folds >= at_least)

    def with_folds(self, folds: int) -> Iterator[int]:
        """Trials with exactly `folds` folds, the best first."""
        return (number for _, number in self.levels.get(folds, ()))

    def place(self, number: int) -> int:
        """Rank of a trial among those with as many folds, from 0."""
        folds, key = self.keys[number]
        return bisect_left(self.levels[folds], key)

    def best(self, at_least: int = 1) -> Iterator[int]:
        """Trials with `at_least` folds or more, the best first."""
        levels = [level for folds, level in self.levels.items() if folds >= at_least]
        return (number for _, number in heapq.merge(*levels))
