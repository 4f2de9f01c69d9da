"""Split plans: cases to train, validate and test on, without a group in two parts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from orchestrator.common.errors import BadSplit
from orchestrator.common.names import meant
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.assign import gather, hold_out, merge
from orchestrator.data.splits.kinds import KINDS, CasePool, KFold, SingleFold, SplitKind, parse_kind
from orchestrator.data.splits.proportions import one_group_problem
from orchestrator.data.splits.published import published_plan
from orchestrator.data.splits.split_file import read_plan
from orchestrator.data.splits.split_plan import (
    Fold,
    SplitPlan,
    fingerprints,
    near_duplicates_of_sources,
    ordered_pairs,
)


def make_plan(
    splits: str,
    datasets: Sequence[Dataset],
    *,
    seed: int,
    holdout: float = 0.1,
    unseen: Sequence[Dataset] = (),
    near_duplicates: Sequence[tuple[str, str]] | None = None,
) -> SplitPlan:
    """The plan for `splits`: one of KINDS, with numbers for N, R and K, or the path of a split file.

    About `holdout` of the cases are set aside first, for the champion's test, each case with the same chance. The rest
    is split into folds: whole groups, balanced in polyp area and in the share of polyp-free images. Groups connected by
    near-duplicates (pairs of case ids, within and between datasets) are merged; unseen cases whose group has a
    near-duplicate in `datasets` are dropped, and the plan lists them. The same seed gives the same plan on every
    machine, in any order of datasets, cases and near-duplicates. BadSplit names every problem at once.
    """
    kind = _kind(splits)
    if kind is None:
        return read_plan(Path(splits), datasets, unseen, near_duplicates)
    near_duplicates = ordered_pairs(near_duplicates)
    _refuse(kind, datasets, holdout, unseen, near_duplicates)
    if isinstance(kind, KFold) and kind.is_published:
        return published_plan(kind, datasets, seed=seed, unseen=unseen, near_duplicates=near_duplicates)
    cases = sorted((case for dataset in datasets for case in dataset.cases), key=lambda case: case.id)
    group_of = group_of_case((*datasets, *unseen), near_duplicates)
    origin_of = {case.id: kind.origin_of(case) for case in cases}
    groups = gather(cases, group_of, origin_of)
    held_out, rest = hold_out(groups, holdout, seed, keep=kind.num_groups)
    if len(rest) < kind.num_groups:
        raise BadSplit("splits", _too_few(len(groups), kind, holdout))
    if isinstance(kind, KFold | SingleFold) and (problem := one_group_problem(rest)):
        raise BadSplit("splits", problem)
    test = frozenset(id for group in held_out for id in group.cases)
    pool = CasePool(
        cases=tuple(case for case in cases if case.id not in test),
        groups=tuple(rest),
        group_of=group_of,
        origins=tuple(sorted(set(origin_of.values()))),
        test=tuple(sorted(test)),
        seed=seed,
        holdout=holdout,
    )
    folds = kind.folds(pool)
    if problems := [_empty_fold_problem(fold) for fold in folds if not fold.train or not fold.val]:
        raise BadSplit("splits", problems)
    return SplitPlan(
        kind=kind.name,
        seed=seed,
        datasets=fingerprints(datasets),
        unseen=fingerprints(unseen),
        groups_known=all(dataset.groups_known for dataset in datasets),
        near_duplicates=near_duplicates,
        folds=folds,
        test=pool.test,
        dropped=near_duplicates_of_sources(datasets, unseen, near_duplicates),
    )


def refuse_options(splits: str, holdout: float) -> None:
    """Raise the errors of a split that are the same for all data."""
    if (kind := _kind(splits)) is None:
        return
    if problems := [*_holdout_problems(holdout), *kind.option_problems(holdout)]:
        raise BadSplit("splits", problems)


def group_of_case(
    datasets: Sequence[Dataset], near_duplicates: Sequence[tuple[str, str]] | None
) -> dict[str, str]:
    """Case id -> group, merged across near-duplicates: the unit of splits and of bootstrap intervals."""
    return merge((case for dataset in datasets for case in dataset.cases), near_duplicates or ())


def looked_for_near_duplicates(splits: str) -> bool:
    """Whether `splits` is a file from write_plan, which holds the near-duplicates if they were searched for."""
    return parse_kind(splits) is None and "format" in json.loads(Path(splits).read_bytes())


def _kind(splits: str) -> SplitKind | None:
    """The kind of split; None for a file. Raises `BadSplit` where it is neither."""
    kind = parse_kind(splits)
    if kind is None and not Path(splits).is_file():
        raise BadSplit(
            "--splits",
            f"needs {', '.join(KINDS)} or the JSON file of a split, found {splits!r}{meant(splits, KINDS)}",
        )
    return kind


def _refuse(
    kind: SplitKind,
    datasets: Sequence[Dataset],
    holdout: float,
    unseen: Sequence[Dataset],
    near_duplicates: Sequence[tuple[str, str]] | None,
) -> None:
    problems = _name_problems((*datasets, *unseen))
    if not problems:
        problems += _near_duplicate_problems(datasets, unseen, near_duplicates)
    if not datasets:
        problems.append("expected at least one dataset to split, found none")
    problems += _holdout_problems(holdout)
    problems += kind.problems(datasets, unseen, holdout)
    if problems:
        raise BadSplit("splits", problems)


def _holdout_problems(holdout: float) -> list[str]:
    return [] if 0 <= holdout < 1 else [f"holdout: expected a share from 0 to below 1, found {holdout}"]


def _name_problems(datasets: Sequence[Dataset]) -> list[str]:
    names = Counter(dataset.name for dataset in datasets)
    problems = [f"{name} is named {count} times; name it once" for name, count in names.items() if count > 1]
    contents: dict[str, str] = {}
    for dataset in datasets:
        other = contents.setdefault(dataset.fingerprint, dataset.name)
        if other != dataset.name:
            problems.append(f"{dataset.name} has the same content as {other}; name one of them")
    return problems


def _near_duplicate_problems(
    datasets: Sequence[Dataset], unseen: Sequence[Dataset], near_duplicates: Sequence[tuple[str, str]] | None
) -> list[str]:
    ids = {case.id for dataset in (*datasets, *unseen) for case in dataset.cases}
    unknown = sorted({id for pair in near_duplicates or () for id in pair} - ids)
    if unknown:
        return [f"near-duplicates: no dataset named here has a case {id}" for id in unknown]
    gone = {
        id for ids in near_duplicates_of_sources(datasets, unseen, near_duplicates).values() for id in ids
    }
    return [
        f"unseen dataset {dataset.name}: each of its {len(dataset.cases)} cases has a near-duplicate in the training "
        "datasets, so it can test nothing; name another"
        for dataset in unseen
        if gone.issuperset(case.id for case in dataset.cases)
    ]


def _too_few(num_groups: int, kind: SplitKind, holdout: float) -> str:
    """Error text with what would work with this number of groups."""
    kept = 1 if holdout > 0 else 0
    goal = f"{kind.name} and a hold-out" if kept else f"{kind.name} without a hold-out"
    most = num_groups - kept
    advice = f"up to {most} folds" if most >= 2 else "more data"
    return (
        f"{goal} of {holdout:.0%}: expected enough groups (videos, patients) for each part to get one, "
        f"found {num_groups}; {advice}, or a smaller hold-out, may work"
    )


def _empty_fold_problem(fold: Fold) -> str:
    dropped = " and ".join(f"{len(ids)} dropped ({reason})" for reason, ids in fold.dropped.items())
    return (
        f"{fold.name}: expected cases to train on and to validate, found {len(fold.train)} and {len(fold.val)}"
        f"{f', with {dropped}' if dropped else ''}; a smaller --holdout, or other data, may work"
    )
