"""Outer folds of a nested cross-validation: parts of the cases that a whole study is tested on, each with its plan.

Such a plan tests on one part and deals all others into folds, in the same kind of split. Where folds are centers or
datasets, so are the parts: then what is estimated is what a study gives on new ones. The hold-out has no part in any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.common.errors import BadSplit
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.assign import deal, gather
from orchestrator.data.splits.kinds import Kind, LeftOut, Pool
from orchestrator.data.splits.resplit import checked, kind_of, pool_of
from orchestrator.data.splits.split_file import SplitPlan

SET_ASIDE = "hold-out of the study on all cases"  # why a case has no part in an outer fold
STRADDLES = "group in training"


@dataclass(frozen=True)
class Part:
    """What one outer fold tests on, and what it can use for nothing."""

    test: tuple[str, ...]
    straddling: tuple[str, ...]  # cases of its centers with a group, or a twin, on the other side


def outer_plans(
    plan: SplitPlan, sources: Sequence[Dataset], unseen: Sequence[Dataset], num_outer: int
) -> tuple[SplitPlan, ...]:
    """A plan for each outer fold: `test` is its part, and folds are dealt in the rest, groups and twins together.

    The same plan and data give the same outer folds on every machine. BadSplit names every problem at once.
    """
    kind = kind_of(plan)
    if kind is None or plan.seed is None:
        raise BadSplit(
            "--nested",
            "needs folds that can be dealt again within each outer fold; those of this file were given",
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


def _parts(kind: Kind, pool: Pool, num_outer: int, seed: int) -> list[Part]:
    if not isinstance(kind, LeftOut):
        dealt = deal(pool.groups, num_outer, f"{seed}.outer")
        return [Part(tuple(sorted(id for group in groups for id in group.cases)), ()) for groups in dealt]
    origin_of = {case.id: kind.origin_of(case) for case in pool.cases}
    spread = _spread(origin_of, pool.group_of)
    parts = []
    for origins in deal(gather(pool.cases, origin_of, origin_of), num_outer, f"{seed}.outer"):
        names = {origin.id for origin in origins}
        ids = sorted(id for origin in origins for id in origin.cases)
        inside = [id for id in ids if spread[pool.group_of[id]] <= names]
        parts.append(Part(tuple(inside), tuple(sorted({*ids} - {*inside}))))
    return parts


def _inner(
    plan: SplitPlan, kind: Kind, sources: Sequence[Dataset], unseen: Sequence[Dataset], part: Part
) -> SplitPlan:
    if not part.test:
        raise BadSplit("--nested", "there are not enough groups for a part of its own")
    apart = {*part.test, *part.straddling}
    pool = pool_of(plan, kind, sources, unseen, plan.seed or 0, test=part.test, without=apart)
    if isinstance(kind, LeftOut) and len(pool.origins) < kind.num_groups:
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


def _spread(origin_of: Mapping[str, str], group_of: Mapping[str, str]) -> dict[str, set[str]]:
    """Group -> the origins of its cases."""
    spread: dict[str, set[str]] = {}
    for id, origin in origin_of.items():
        spread.setdefault(group_of[id], set()).add(origin)
    return spread
