"""The cases of a plan dealt once more, in the same kind of split: other folds, the same hold-out, groups and twins."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from orchestrator.common.errors import BadSplit
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.assign import gather, merge
from orchestrator.data.splits.kinds import TRIES, KFold, Kind, Pool, Single, kind_named
from orchestrator.data.splits.split_file import Fold, SplitPlan

FRESH = 7_368_787  # what is added to a seed for another one


def kind_of(plan: SplitPlan) -> Kind | None:
    """How its folds were made; None of somebody's own."""
    return None if plan.seed is None else kind_named(plan.kind)


def resplit(plan: SplitPlan, sources: Sequence[Dataset], unseen: Sequence[Dataset]) -> SplitPlan:
    """Other folds of the same cases; the plan itself where folds follow from centers or datasets, or were given.

    Few groups may be dealt into the same folds again: of `TRIES` seeds the first with the fewest such folds is taken.
    Raises `BadSplit` if all of them leave a fold without cases.
    """
    kind = kind_of(plan)
    if plan.seed is None or not isinstance(kind, KFold | Single):
        return plan
    pool = pool_of(plan, kind, sources, unseen, plan.seed)
    pool = replace(pool, unwanted=frozenset(pool.groups_of(fold.val) for fold in plan.folds))
    found: list[SplitPlan] = []
    refused: list[BadSplit] = []
    for seed in (plan.seed + attempt * FRESH for attempt in range(1, TRIES + 1)):
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
    """How many folds of a plan that was dealt again validate the very cases that one of the first did."""
    before = {fold.val for fold in plan.folds}
    return sum(fold.val in before for fold in again.folds)


def pool_of(
    plan: SplitPlan,
    kind: Kind,
    sources: Sequence[Dataset],
    unseen: Sequence[Dataset],
    seed: int,
    *,
    test: tuple[str, ...] | None = None,
    without: Container[str] = (),
) -> Pool:
    """The cases that the plan's folds are made of, less `without`; `test` in the place of its hold-out."""
    apart = {*plan.test, *plan.left_out}
    cases = [case for dataset in sources for case in dataset.cases]
    kept = sorted(
        (case for case in cases if case.id not in apart and case.id not in without), key=lambda c: c.id
    )
    group_of = merge(
        (case for dataset in (*sources, *unseen) for case in dataset.cases), plan.near_duplicates or ()
    )
    origin_of = {case.id: kind.origin_of(case) for case in kept}
    return Pool(
        cases=tuple(kept),
        groups=tuple(gather(kept, group_of, origin_of)),
        group_of=group_of,
        origins=tuple(sorted(set(origin_of.values()))),
        test=plan.test if test is None else test,
        seed=seed,
        holdout=_holdout(plan.folds[0]),
    )


def checked(folds: tuple[Fold, ...]) -> tuple[Fold, ...]:
    """The folds, if each has cases to train on and to validate."""
    if problems := [
        f"{fold.name}: expected cases to train on and to validate when cases are dealt anew, found "
        f"{len(fold.train)} and {len(fold.val)}"
        for fold in folds
        if not fold.train or not fold.val
    ]:
        raise BadSplit("splits", problems)
    return folds


def _holdout(fold: Fold) -> float:
    """The hold-out that makes a single validation part as large as this one, a share of all cases."""
    share = len(fold.val) / (len(fold.val) + len(fold.train))
    return share / (1 + share)
