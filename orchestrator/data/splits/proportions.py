"""Warnings, or a refusal, where one group has most of the cases: such unequal folds should not be averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.data.splits.balance import Group

if TYPE_CHECKING:
    from orchestrator.data.splits.split_plan import Fold, SplitPlan

LOPSIDED = 1.5  # validated cases relative to an even split, or to the training cases of the fold
MOST = 0.9  # of the cases that are split into folds, in one group
REMEDY = (
    "smaller groups in a --groups file (videos rather than hospitals), more data, or folds of your own "
    "(--splits FILE) would help; `data leaks` lists near-duplicates that tie groups together"
)


def lopsided(plan: SplitPlan, group_of: Mapping[str, str] | None = None) -> str | None:
    """One line on the fold that validates far more than its share, or than it trains on; None if there is none.

    `group_of`: case id -> group, to name the largest one.
    """
    unlike = [fold for fold in plan.folds if _is_lopsided(fold, plan)]
    if not unlike:
        return None
    worst = max(unlike, key=lambda fold: len(fold.val))
    line = (
        f"{worst.name} trains on {len(worst.train)} cases and validates {len(worst.val)} of "
        f"{len(worst.train) + len(worst.val)}"
    )
    others = f" ({len(unlike) - 1} more folds are as uneven)" if len(unlike) > 1 else ""
    if _is_left_out(plan):
        return f"{line}{others}; more datasets, or five-fold, would help"
    share = f", where an even split validates {_mean_validated(plan):.0f}" if len(plan.folds) > 1 else ""
    return f"{line}{share}{_largest_group(worst, group_of)}{others}; {REMEDY}"


def one_group_problem(groups: Sequence[Group]) -> str | None:
    """Error text if one group has nearly all cases; None otherwise."""
    cases, largest = sum(len(group.cases) for group in groups), max(groups, key=lambda g: len(g.cases))
    if len(largest.cases) <= MOST * cases:
        return None
    return (
        f"expected no group with more than {MOST:.0%} of the cases that become folds, found {largest.id} with "
        f"{len(largest.cases)} of {cases}: the fold that validates it would train on "
        f"{cases - len(largest.cases)}; {REMEDY}"
    )


def hold_out_line(plan: SplitPlan, group_of: Mapping[str, str], requested: float | None = None) -> str:
    """The actual size of the hold-out (groups are kept whole), with the requested share if one was given."""
    dropped = (ids for fold in plan.folds for ids in fold.dropped.values())
    everyone = {id for fold in plan.folds for id in (*fold.train, *fold.val)}.union(plan.test, *dropped)
    groups, held_out = {group_of[id] for id in everyone}, {group_of[id] for id in plan.test}
    request = "" if requested is None else f", {requested:.0%} requested"
    return (
        f"hold-out: {len(plan.test)} of {len(everyone)} cases ({len(plan.test) / len(everyone):.1%}{request}), "
        f"{len(held_out)} of {len(groups)} groups"
    )


def _is_lopsided(fold: Fold, plan: SplitPlan) -> bool:
    is_even = plan.seed is not None and len(plan.folds) > 1 and not _is_left_out(plan)
    too_many = is_even and len(fold.val) > LOPSIDED * _mean_validated(plan)
    return too_many or len(fold.val) > LOPSIDED * len(fold.train)


def _is_left_out(plan: SplitPlan) -> bool:
    """Whether folds are centers or datasets, which differ in size by nature."""
    return plan.kind.startswith("leave-one-")


def _mean_validated(plan: SplitPlan) -> float:
    return sum(len(fold.val) for fold in plan.folds) / len(plan.folds)


def _largest_group(fold: Fold, group_of: Mapping[str, str] | None) -> str:
    if group_of is None:
        return ""
    sizes: dict[str, int] = {}
    for id in fold.val:
        sizes[group_of[id]] = sizes.get(group_of[id], 0) + 1
    name = max(sizes, key=sizes.__getitem__)
    return f", {sizes[name]} of them in group {name}"


def listed_reasons(dropped: Mapping[str, int]) -> str:
    """Numbers of dropped cases with reasons, such as "3 (near-duplicate in training), 1 (...)"."""
    return ", ".join(f"{count} ({reason_in_words(reason)})" for reason, count in dropped.items())


def reason_in_words(reason: str) -> str:
    """Reason for leaving out a case, with "near-duplicate" in place of the "twin" of split files."""
    return reason.replace("twin", "near-duplicate")
