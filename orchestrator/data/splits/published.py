"""The split that the authors of a dataset published: train, validate and test by the parts of their archive.

Cases that share a group, or near-duplicates, with training are dropped from validation and test, and counted: many
published splits divide videos or hold one frame twice. Without a published validation part the training part is split
into five folds, and the published test part is the hold-out test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.common.errors import BadSplit
from orchestrator.data.cases import Case, Dataset
from orchestrator.data.published.parts import Role, role_of
from orchestrator.data.splits.assign import gather, merge
from orchestrator.data.splits.kinds import CasePool, KFold
from orchestrator.data.splits.split_plan import (
    Fold,
    SplitPlan,
    fingerprints,
    near_duplicates_of_sources,
    ordered_pairs,
)

NO_PART = "in no published part"
BY_GROUP = "group in training"
BY_NEAR_DUPLICATE = "twin in training"  # "twin" in files is near-duplicate in messages


@dataclass(frozen=True)
class Parts:
    """Case ids by their published use."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    dropped: Mapping[str, tuple[str, ...]]  # reason -> ids of no part, or tied to a part that comes before


def published_plan(
    kind: KFold,
    datasets: Sequence[Dataset],
    *,
    seed: int,
    unseen: Sequence[Dataset] = (),
    near_duplicates: Iterable[tuple[str, str]] | None = None,
) -> SplitPlan:
    """The plan by the published parts of these datasets; BadSplit names those that have none."""
    if problems := [problem for dataset in datasets if (problem := _problem(dataset))]:
        raise BadSplit("splits", problems)
    pairs = ordered_pairs(near_duplicates)
    cases = sorted((case for dataset in datasets for case in dataset.cases), key=lambda case: case.id)
    group_of = merge((case for dataset in (*datasets, *unseen) for case in dataset.cases), pairs or ())
    parts = _parts(cases, group_of)
    has_val = any(role_of(case.part) == "val" for case in cases)
    if has_val:
        folds: tuple[Fold, ...] = (Fold(0, "fold 0", parts.train, parts.val, parts.test, {}),)
    else:
        folds = kind.folds(_pool(kind, cases, parts, group_of, seed))
    tied = ", ".join(f"{len(ids)} dropped ({reason})" for reason, ids in parts.dropped.items())
    if any(not fold.train or not fold.val for fold in folds):
        raise BadSplit("splits", f"published: expected cases to train on and to validate, found none; {tied}")
    if not parts.test and any(role_of(case.part) == "test" for case in cases):
        raise BadSplit("splits", f"published: the test part can test nothing: {tied}; use another split")
    return SplitPlan(
        kind=kind.name,
        seed=None if has_val else seed,
        datasets=fingerprints(datasets),
        unseen=fingerprints(unseen),
        groups_known=all(dataset.groups_known for dataset in datasets),
        near_duplicates=pairs,
        folds=folds,
        test=parts.test,
        dropped={**parts.dropped, **near_duplicates_of_sources(datasets, unseen, pairs)},
    )


def _problem(dataset: Dataset) -> str:
    counts = Counter(role_of(case.part) for case in dataset.cases)
    if counts["train"] and (counts["val"] or counts["test"]):
        return ""
    found = ", ".join(sorted({case.part for case in dataset.cases if case.part})) or "none"
    return (
        f"published: expected parts of {dataset.name} to train and to test on, found {found}; parts are known only if "
        "the whole archive was imported (--part '*') by a version that records them"
    )


def _parts(cases: Sequence[Case], group_of: Mapping[str, str]) -> Parts:
    """Case ids of training, validation and test; a case that is tied to an earlier part is dropped."""
    ids: dict[Role, list[str]] = {"train": [], "val": [], "test": []}
    dropped: dict[str, list[str]] = {}
    taken: set[str] = set()
    taken_alone: set[str] = set()  # without near-duplicates
    for role in ("train", "val", "test"):
        here = [case for case in cases if role_of(case.part) == role]
        for case in here:
            if group_of[case.id] in taken:
                reason = BY_GROUP if case.group in taken_alone else BY_NEAR_DUPLICATE
                dropped.setdefault(reason, []).append(case.id)
            else:
                ids[role].append(case.id)
        taken |= {group_of[case.id] for case in here}
        taken_alone |= {case.group for case in here}
    if without := [case.id for case in cases if not role_of(case.part)]:
        dropped[NO_PART] = without
    listed = {reason: tuple(sorted(found)) for reason, found in sorted(dropped.items())}
    return Parts(tuple(ids["train"]), tuple(ids["val"]), tuple(ids["test"]), listed)


def _pool(
    kind: KFold, cases: Sequence[Case], parts: Parts, group_of: Mapping[str, str], seed: int
) -> CasePool:
    """Pool of the cases of the training part, to be split into folds; BadSplit if it has too few groups."""
    train = set(parts.train)
    kept = tuple(case for case in cases if case.id in train)
    origin_of = {case.id: case.dataset for case in kept}
    groups = tuple(gather(kept, group_of, origin_of))
    if len(groups) < kind.num_groups:
        raise BadSplit(
            "splits",
            f"published: expected at least {kind.num_groups} groups in the training part, found {len(groups)}",
        )
    origins = tuple(sorted(set(origin_of.values())))
    return CasePool(kept, groups, group_of, origins, parts.test, seed, holdout=0.0)
