"""A second split of a plan's cases, of the same kind: other folds, the same hold-out, groups and near-duplicates."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from orchestrator.common.errors import BadSplit
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.assign import gather, merge
from orchestrator.data.splits.kinds import MAX_SEEDS, CasePool, KFold, SingleFold, SplitKind, kind_named
from orchestrator.data.splits.split_plan import Fold, SplitPlan

FRESH = 7_368_787  # increment between the seeds that are tried


def kind_of(plan: SplitPlan) -> SplitKind | None:
    """The method that formed the plan's folds; None for folds that a user gave."""
    return None if plan.seed is None else kind_named(plan.kind)


def resplit(plan: SplitPlan, sources: Sequence[Dataset], unseen: Sequence[Dataset]) -> SplitPlan:
    """A plan with other folds of the same cases; the plan itself where folds are centers or datasets, or were given.

    Few groups may give the same folds again: of `MAX_SEEDS` seeds the first with the fewest such folds is taken.
    Raises `BadSplit` if each of them leaves a fold without cases.
    """
    kind = kind_of(plan)
    if plan.seed is None or not isinstance(kind, KFold | SingleFold):
        return plan
    pool = pool_of(plan, kind, sources, unseen, plan.seed)
    pool = replace(pool, unwanted=frozenset(pool.groups_of(fold.val) for fold in plan.folds))
    found: list[SplitPlan] = []
    refused: list[BadSplit] = []
    for seed in (plan.seed + attempt * FRESH for attempt in range(1, MAX_SEEDS + 1)):
        try:
            folds = checked(kind.folds(replace(pool, seed=seed)))
        except BadSplit as error:
            refused.append(error)
            continue
        found.append(replace(plan, seed=seed, folds=folds))
        if not num_same(plan, found[-1]):
            break
    if not found:
        raise refused[0]
    return min(found, key=lambda again: num_same(plan, again))


def num_same(plan: SplitPlan, again: SplitPlan) -> int:
    """Number of folds of the second split `again` that validate exactly the cases of a fold of `plan`."""
    before = {fold.val for fold in plan.folds}
    return sum(fold.val in before for fold in again.folds)


def pool_of(
    plan: SplitPlan,
    kind: SplitKind,
    sources: Sequence[Dataset],
    unseen: Sequence[Dataset],
    seed: int,
    *,
    test: tuple[str, ...] | None = None,
    without: Container[str] = (),
) -> CasePool:
    """The cases that the plan's folds divide, without `without`; `test` replaces its hold-out."""
    apart = {*plan.test, *plan.left_out}
    cases = [case for dataset in sources for case in dataset.cases]
    kept = sorted(
        (case for case in cases if case.id not in apart and case.id not in without), key=lambda c: c.id
    )
    group_of = merge(
        (case for dataset in (*sources, *unseen) for case in dataset.cases), plan.near_duplicates or ()
    )
    origin_of = {case.id: kind.origin_of(case) for case in kept}
    return CasePool(
        cases=tuple(kept),
        groups=tuple(gather(kept, group_of, origin_of)),
        group_of=group_of,
        origins=tuple(sorted(set(origin_of.values()))),
        test=plan.test if test is None else test,
        seed=seed,
        holdout=_holdout(plan.folds[0]),
    )


def checked(folds: tuple[Fold, ...]) -> tuple[Fold, ...]:
    """The same folds; BadSplit if one has no cases to train on or to validate."""
    if problems := [
        f"{fold.name}: expected cases to train on and to validate in the second split, found "
        f"{len(fold.train)} and {len(fold.val)}"
        for fold in folds
        if not fold.train or not fold.val
    ]:
        raise BadSplit("splits", problems)
    return folds


def _holdout(fold: Fold) -> float:
    """The hold-out share for which a single validation part would be as large as this one."""
    share = len(fold.val) / (len(fold.val) + len(fold.train))
    return share / (1 + share)
