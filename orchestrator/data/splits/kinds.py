"""The kinds of split: methods of forming folds from the cases that are not held out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from orchestrator.common.errors import BadSplit
from orchestrator.data.cases import Case, Dataset
from orchestrator.data.splits.assign import assign_groups, hold_out
from orchestrator.data.splits.balance import Group
from orchestrator.data.splits.split_plan import Fold

KINDS = (
    "five-fold",
    "k-fold:N",
    "repeated:RxK",
    "holdout",
    "cross-dataset",
    "leave-one-center-out",
    "leave-one-dataset-out",
    "published",
)
MAX_SEEDS = 20  # seeds to try before repeats without a common fold are given up


@dataclass(frozen=True)
class CasePool:
    """The cases that are assigned to folds, without those of the hold-out test."""

    cases: tuple[Case, ...]  # sorted by id
    groups: tuple[Group, ...]
    group_of: Mapping[str, str]  # case id -> group, merged across near-duplicates
    origins: tuple[str, ...]  # datasets or centers, sorted; the hold-out test may have emptied one
    test: tuple[str, ...]
    seed: int
    holdout: float
    # validation parts, as group ids, that should not occur again
    unwanted: frozenset[frozenset[str]] = frozenset()

    def groups_of(self, ids: Iterable[str]) -> frozenset[str]:
        """The groups of these cases."""
        return frozenset(self.group_of[id] for id in ids)

    def fold(
        self, index: int, name: str, val: Iterable[str], dropped: Mapping[str, Sequence[str]] | None = None
    ) -> Fold:
        """The fold that validates on `val` and trains on all other cases except `dropped` (reason -> case ids)."""
        left_out = {reason: tuple(sorted(ids)) for reason, ids in (dropped or {}).items() if ids}
        apart = {*val, *(id for ids in left_out.values() for id in ids)}
        train = tuple(case.id for case in self.cases if case.id not in apart)
        return Fold(index, name, train, tuple(sorted(val)), self.test, left_out)


class SplitKind(Protocol):
    """A method of forming folds."""

    @property
    def name(self) -> str: ...

    @property
    def num_groups(self) -> int:
        """The fewest groups that folds can be formed of."""
        ...

    def problems(self, datasets: Sequence[Dataset], unseen: Sequence[Dataset], holdout: float) -> list[str]:
        """Descriptions of everything that rules this split out."""
        ...

    def option_problems(self, holdout: float) -> list[str]:
        """Those of `problems` that are the same for all data."""
        ...

    def origin_of(self, case: Case) -> str:
        """The dataset, or the center, of a case."""
        ...

    def folds(self, pool: CasePool) -> tuple[Fold, ...]: ...


@dataclass(frozen=True)
class KFold:
    """K folds, assigned R times; every case is validated R times. The first repeat equals a plain K-fold."""

    num_folds: int = 5
    num_repeats: int = 1
    to_unseen: bool = False  # whether the test is an unseen dataset, so that one must be named
    is_published: bool = False  # whether train, val and test are the parts of the published archive

    @property
    def name(self) -> str:
        if self.to_unseen or self.is_published:
            return "published" if self.is_published else "cross-dataset"
        if self.num_repeats > 1:
            return f"repeated-{self.num_repeats}x{self.num_folds}"
        return "five-fold" if self.num_folds == 5 else f"{self.num_folds}-fold"

    @property
    def num_groups(self) -> int:
        return self.num_folds

    def option_problems(self, holdout: float) -> list[str]:
        problems = []
        if self.num_folds < 2:
            problems.append(f"expected at least 2 folds, found {self.num_folds}")
        if self.num_repeats < 1:
            problems.append(f"expected at least 1 repeat, found {self.num_repeats}")
        return problems

    def problems(self, datasets: Sequence[Dataset], unseen: Sequence[Dataset], holdout: float) -> list[str]:
        problems = self.option_problems(holdout)
        if self.to_unseen and not unseen:
            problems.append(
                "cross-dataset: expected a dataset to test on, found none; name it with --unseen, "
                "or use leave-one-dataset-out, which tests on each of several --data in turn"
            )
        return problems

    def origin_of(self, case: Case) -> str:
        return case.dataset

    def folds(self, pool: CasePool) -> tuple[Fold, ...]:
        repeats = self._repeats(pool)
        named = [
            (f"repeat {repeat} fold {fold}" if self.num_repeats > 1 else f"fold {fold}", val)
            for repeat, vals in enumerate(repeats)
            for fold, val in enumerate(vals)
        ]
        return tuple(pool.fold(index, name, val) for index, (name, val) in enumerate(named))

    def _repeats(self, pool: CasePool) -> list[list[tuple[str, ...]]]:
        """The validation part of each fold of each repeat; no two repeats share a fold.

        The same fold twice would be nearly the same fit twice: its error would not average out.
        """
        # at least so many groups form a fold of their own in every repeat
        alone = 2 * self.num_folds - len(pool.groups)
        if self.num_repeats > 1 and self.num_repeats * alone > len(pool.groups):
            raise BadSplit("splits", self._too_many(pool, f"there are at most {len(pool.groups) // alone}"))
        found: list[list[tuple[str, ...]]] = []
        for attempt in range(MAX_SEEDS):
            found = max(found, self._apart(pool, attempt), key=len)
            if len(found) == self.num_repeats:
                break
        else:
            raise BadSplit("splits", self._too_many(pool, f"no more than {len(found)} were found"))
        return found

    def _apart(self, pool: CasePool, attempt: int) -> list[list[tuple[str, ...]]]:
        """Repeats up to the first that shares a fold with an earlier one."""
        repeats: list[list[tuple[str, ...]]] = []
        before: set[frozenset[str]] = set()
        for repeat in range(self.num_repeats):
            seed = f"{pool.seed}.{repeat}.{attempt}" if repeat or attempt else pool.seed
            parts = assign_groups(pool.groups, self.num_folds, seed, unwanted=pool.unwanted | before)
            found = {frozenset(group.id for group in part) for part in parts}
            if found & before:
                break
            before |= found
            repeats.append([_ids(part) for part in parts])
        return repeats

    def _too_many(self, pool: CasePool, most: str) -> str:
        return (
            f"{self.num_repeats} repeats of {self.num_folds} folds: expected repeats without a common fold, but of "
            f"{len(pool.groups)} groups {most}; use fewer repeats or folds"
        )


@dataclass(frozen=True)
class SingleFold:
    """One fold, with a validation part as large as the hold-out test: 80/10/10 for a hold-out of 10 %."""

    name: str = "holdout"
    num_groups: int = 2

    def problems(self, datasets: Sequence[Dataset], unseen: Sequence[Dataset], holdout: float) -> list[str]:
        return self.option_problems(holdout)

    def option_problems(self, holdout: float) -> list[str]:
        if 0 < holdout < 0.5:
            return []
        return [
            f"holdout: expected --holdout above 0 and below 0.5, for test and validation, found {holdout}"
        ]

    def origin_of(self, case: Case) -> str:
        return case.dataset

    def folds(self, pool: CasePool) -> tuple[Fold, ...]:
        share = pool.holdout / (1 - pool.holdout)
        validated, _ = hold_out(pool.groups, share, pool.seed, keep=1)
        return (pool.fold(0, "fold 0", _ids(validated)),)


@dataclass(frozen=True)
class LeaveOneOut:
    """Folds that each validate on one center, or dataset, and train on all others.

    Centers of two datasets are different, and a dataset without centers counts as one center. Cases whose group or
    near-duplicate is on the other side are not validated.
    """

    of: Literal["center", "dataset"]

    @property
    def name(self) -> str:
        return f"leave-one-{self.of}-out"

    @property
    def num_groups(self) -> int:
        return 2

    def option_problems(self, holdout: float) -> list[str]:
        return []

    def problems(self, datasets: Sequence[Dataset], unseen: Sequence[Dataset], holdout: float) -> list[str]:
        problems = []
        for dataset in datasets if self.of == "center" else ():
            without = sum(case.center is None for case in dataset.cases)
            if 0 < without < len(dataset.cases):
                problems.append(
                    f"{dataset.name}: expected a center for every case or for none, found {without} of "
                    f"{len(dataset.cases)} cases without one"
                )
        origins = sorted({self.origin_of(case) for dataset in datasets for case in dataset.cases})
        if len(origins) < 2:
            problems.append(
                f"{self.name}: expected at least 2 {self.of}s, found {len(origins)} ({', '.join(origins)}); "
                f"name more data, or use five-fold"
            )
        return problems

    def origin_of(self, case: Case) -> str:
        if self.of == "center" and case.center is not None:
            return f"{case.dataset}/{case.center}"
        return case.dataset

    def folds(self, pool: CasePool) -> tuple[Fold, ...]:
        origin_of = {case.id: self.origin_of(case) for case in pool.cases}
        spread = origins_by_group(origin_of, pool.group_of)
        spread_untied = origins_by_group(origin_of, {case.id: case.group for case in pool.cases})
        folds = []
        for index, origin in enumerate(pool.origins):
            val, by_group, by_near_duplicate = [], [], []
            for case in pool.cases:
                if origin_of[case.id] != origin:
                    continue
                if len(spread[pool.group_of[case.id]]) == 1:
                    val.append(case.id)
                elif len(spread_untied[case.group]) > 1:
                    by_group.append(case.id)
                else:
                    by_near_duplicate.append(case.id)
            dropped = {"group in training": by_group, "twin in training": by_near_duplicate}
            folds.append(pool.fold(index, f"{self.of} {origin}", val, dropped))
        return tuple(folds)


def parse_kind(text: str) -> SplitKind | None:
    """The kind of split for a value of --splits; None for an unknown one."""
    if found := re.fullmatch(r"k-fold:(\d+)", text):
        return KFold(int(found[1]))
    if found := re.fullmatch(r"repeated:(\d+)x(\d+)", text):
        return KFold(int(found[2]), int(found[1]))
    plain: dict[str, SplitKind] = {
        "five-fold": KFold(),
        "holdout": SingleFold(),
        "cross-dataset": KFold(to_unseen=True),
        "leave-one-center-out": LeaveOneOut("center"),
        "leave-one-dataset-out": LeaveOneOut("dataset"),
        "published": KFold(is_published=True),
    }
    return plain.get(text)


def kind_named(name: str) -> SplitKind | None:
    """The kind of split with this `SplitKind.name`; None for an unknown name."""
    if found := re.fullmatch(r"(\d+)-fold", name):
        return KFold(int(found[1]))
    if found := re.fullmatch(r"repeated-(\d+)x(\d+)", name):
        return KFold(int(found[2]), int(found[1]))
    return parse_kind(name)


def _ids(groups: Iterable[Group]) -> tuple[str, ...]:
    return tuple(sorted(id for group in groups for id in group.cases))


def origins_by_group(origin_of: Mapping[str, str], group_of: Mapping[str, str]) -> dict[str, set[str]]:
    """Group -> the origins of its cases."""
    spread: dict[str, set[str]] = {}
    for id, origin in origin_of.items():
        spread.setdefault(group_of[id], set()).add(origin)
    return spread
