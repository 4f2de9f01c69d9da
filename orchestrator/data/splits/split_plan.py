"""A split as a value: folds over the cases of datasets, the hold-out, and left-out cases by reason."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any, NamedTuple

from pydantic import AliasChoices, Field

from orchestrator.data.cases import Dataset
from orchestrator.data.splits.assign import merge

BY_NEAR_DUPLICATES = "-by-near-duplicates"  # in the name of a plan whose groups are these
NEAR_DUPLICATE_OF_SOURCE = (
    "twin in the training datasets"  # reason, in split files, for dropping an unseen case
)


class NearDuplicateCounts(NamedTuple):
    """Pairs of near-duplicate cases."""

    within: int  # of one dataset
    between: int  # of two

    def __str__(self) -> str:
        return f"{self.within} pairs within datasets and {self.between} between them"


@dataclass(frozen=True)
class Fold:
    """Case ids, sorted; train, val and test share no group and no near-duplicates."""

    index: int
    name: str  # "fold 0", "repeat 1 fold 0", "center PolypGen/C3", "dataset Kvasir-SEG"
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    dropped: dict[str, tuple[str, ...]]  # reason -> ids that this fold leaves out


@dataclass(frozen=True)
class SplitPlan:
    """Folds over the cases of some datasets, and the cases that the search does not use."""

    kind: str  # "five-fold", "3-fold", "repeated-2x5", "leave-one-center-out", or the name of a given split
    seed: int | None  # None: the folds were given
    datasets: dict[str, str]  # name -> fingerprint
    unseen: dict[str, str]  # name -> fingerprint; scored once, never trained on
    groups_known: bool
    # Pairs of ids of near-duplicates; None: not searched for. Files call them "twins".
    near_duplicates: Annotated[
        tuple[tuple[str, str], ...] | None,
        Field(validation_alias=AliasChoices("twins", "near_duplicates")),
    ]
    folds: tuple[Fold, ...]
    test: tuple[str, ...]  # held out of every fold; scored once, for champions
    dropped: dict[str, tuple[str, ...]]  # reason -> ids that no fold trains on, validates or tests

    @property
    def name(self) -> str:
        """The kind, a suffix where not all groups are known, and the seed."""
        by = "" if self.groups_known else "-by-image" if self.near_duplicates is None else BY_NEAR_DUPLICATES
        return f"{self.kind}{by}" + ("" if self.seed is None else f"-seed{self.seed}")

    @cached_property
    def digest(self) -> str:
        """32 hex digits of a hash of the whole plan."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:32]

    def as_dict(self) -> dict[str, Any]:
        """The fields under their names in files."""
        return {name_in_files(key): value for key, value in asdict(self).items()}

    @property
    def num_repeats(self) -> int:
        """Number of folds that validate a case, equal for all validated cases."""
        return max(Counter(id for fold in self.folds for id in fold.val).values())

    @property
    def num_dropped(self) -> dict[str, int]:
        """Reason -> number of dropped cases, counted once for every fold that drops them."""
        dropped: Counter[str] = Counter()
        for lists in (self.dropped, *(fold.dropped for fold in self.folds)):
            dropped.update({reason: len(ids) for reason, ids in lists.items()})
        return dict(sorted(dropped.items()))

    @property
    def num_near_duplicates(self) -> NearDuplicateCounts | None:
        """Pairs of near-duplicates; None if they were not searched for."""
        return None if self.near_duplicates is None else count_near_duplicates(self.near_duplicates)

    @property
    def num_unseen_near_duplicates(self) -> int:
        """Number of unseen cases that are dropped, because they have near-duplicates in the training datasets."""
        return len(self.dropped.get(NEAR_DUPLICATE_OF_SOURCE, ()))

    @property
    def left_out(self) -> frozenset[str]:
        """Cases that no fold uses in any way."""
        return frozenset(id for ids in self.dropped.values() for id in ids)


def name_in_files(field: str) -> str:
    """Key of a field of `SplitPlan` in split files."""
    return "twins" if field == "near_duplicates" else field


def fingerprints(datasets: Iterable[Dataset]) -> dict[str, str]:
    """Dataset name -> fingerprint, sorted by name."""
    return {dataset.name: dataset.fingerprint for dataset in sorted(datasets, key=lambda d: d.name)}


def ordered_pairs(near_duplicates: Iterable[tuple[str, str]] | None) -> tuple[tuple[str, str], ...] | None:
    """Pairs of case ids, each pair once, sorted; None if near-duplicates were not searched for."""
    return (
        None
        if near_duplicates is None
        else tuple(sorted({(min(pair), max(pair)) for pair in near_duplicates}))
    )


def count_near_duplicates(near_duplicates: Sequence[tuple[str, str]]) -> NearDuplicateCounts:
    """Numbers of these pairs of case ids within one dataset and between two."""
    between = sum(one.split("/")[0] != other.split("/")[0] for one, other in near_duplicates)
    return NearDuplicateCounts(len(near_duplicates) - between, between)


def near_duplicates_of_sources(
    datasets: Sequence[Dataset], unseen: Sequence[Dataset], near_duplicates: Iterable[tuple[str, str]] | None
) -> dict[str, tuple[str, ...]]:
    """Reason -> unseen cases that cannot test anything: their group has a near-duplicate in the other datasets."""
    group_of = merge(
        (case for dataset in (*datasets, *unseen) for case in dataset.cases), near_duplicates or ()
    )
    seen = {group_of[case.id] for dataset in datasets for case in dataset.cases}
    ids = [case.id for dataset in unseen for case in dataset.cases if group_of[case.id] in seen]
    return {NEAR_DUPLICATE_OF_SOURCE: tuple(sorted(ids))} if ids else {}


def earlier_name(name: str) -> str:
    """The name of a split plan, or one that contains it, as earlier versions wrote it."""
    return name.replace(BY_NEAR_DUPLICATES, "-by-twins")
