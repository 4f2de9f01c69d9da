"""Outer folds of a nested cross-validation: each is a test part for a whole study, with the split plan of the rest.

The rest is split into folds by the same kind of split. Where folds are centers or datasets, so are the test parts: the
estimate then holds for new centers or datasets. The hold-out of the plan takes part in no outer fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.common.errors import BadSplit
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.assign import assign_groups, gather
from orchestrator.data.splits.kinds import CasePool, LeaveOneOut, SplitKind, origins_by_group
from orchestrator.data.splits.resplit import checked, kind_of, pool_of
from orchestrator.data.splits.split_plan import SplitPlan

SET_ASIDE = "hold-out of the study on all cases"  # reason in outer plans for the cases of the hold-out
STRADDLES = "group in training"


@dataclass(frozen=True)
class OuterFoldCases:
    """The cases that one outer fold tests on, and the cases that it cannot use."""

    test: tuple[str, ...]
    straddling: tuple[str, ...]  # cases of its centers with a group or near-duplicate on the other side


def outer_plans(
    plan: SplitPlan, sources: Sequence[Dataset], unseen: Sequence[Dataset], num_outer: int
) -> tuple[SplitPlan, ...]:
    """A plan for each outer fold: `test` is its part, folds divide the rest; groups and near-duplicates stay together.

    The same plan and data give the same outer folds on every machine. BadSplit names every problem at once.
    """
    kind = kind_of(plan)
    if kind is None or plan.seed is None:
        raise BadSplit(
            "--nested",
            "needs folds that can be formed again within each outer fold; these folds are fixed",
        )
    pool = pool_of(plan, kind, sources, unseen, plan.seed)
    found: list[SplitPlan] = []
    problems: list[str] = []
    for outer, part in enumerate(_parts(kind, pool, num_outer, plan.seed), start=1):
        try:
            found.append(_inner(plan, kind, sources, unseen, part))
        except BadSplit as error:
            problems += [f"outer fold {outer}: {problem}" for problem in error.problems]
    if problems:
        raise BadSplit("--nested", [*problems, "fewer outer folds, or more data, may work"])
    return tuple(found)


def _parts(kind: SplitKind, pool: CasePool, num_outer: int, seed: int) -> list[OuterFoldCases]:
    if not isinstance(kind, LeaveOneOut):
        assigned = assign_groups(pool.groups, num_outer, f"{seed}.outer")
        return [
            OuterFoldCases(tuple(sorted(id for group in groups for id in group.cases)), ())
            for groups in assigned
        ]
    origin_of = {case.id: kind.origin_of(case) for case in pool.cases}
    spread = origins_by_group(origin_of, pool.group_of)
    parts = []
    for origins in assign_groups(gather(pool.cases, origin_of, origin_of), num_outer, f"{seed}.outer"):
        names = {origin.id for origin in origins}
        ids = sorted(id for origin in origins for id in origin.cases)
        inside = [id for id in ids if spread[pool.group_of[id]] <= names]
        parts.append(OuterFoldCases(tuple(inside), tuple(sorted({*ids} - {*inside}))))
    return parts


def _inner(
    plan: SplitPlan,
    kind: SplitKind,
    sources: Sequence[Dataset],
    unseen: Sequence[Dataset],
    part: OuterFoldCases,
) -> SplitPlan:
    if not part.test:
        raise BadSplit("--nested", "there are too few groups for a test part")
    apart = {*part.test, *part.straddling}
    pool = pool_of(plan, kind, sources, unseen, plan.seed or 0, test=part.test, without=apart)
    if isinstance(kind, LeaveOneOut) and len(pool.origins) < kind.num_groups:
        raise BadSplit(
            "--nested",
            f"{kind.name} needs {kind.num_groups} {kind.of}s in the rest, found {len(pool.origins)}",
        )
    dropped = plan.dropped | ({SET_ASIDE: plan.test} if plan.test else {})
    if part.straddling:
        dropped = dropped | {STRADDLES: part.straddling}
    return replace(
        plan, folds=checked(kind.folds(pool)), test=part.test, dropped=dict(sorted(dropped.items()))
    )
