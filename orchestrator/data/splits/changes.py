"""Description of the differences between a split and the one that a study was started with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.common.display import counted
from orchestrator.data.splits.split_plan import SplitPlan


def split_changes(was: Mapping[str, Any], now: SplitPlan) -> str:
    """Differences between the content of a split file and a plan, such as "5-fold, seed 0; now 3-fold, seed 0".

    Where kind, seed, folds, hold-out and near-duplicates are the same, the number of folds with other cases is given.
    """
    before, after = _facts(was), _facts(now.as_dict())
    differ = [name for name in after if before[name] != after[name]]
    if not differ:
        return _other_cases(was, now)
    values = (", ".join(facts[name] for name in differ) for facts in (before, after))
    return "was {}, now {}".format(*values)


def _facts(plan: Mapping[str, Any]) -> dict[str, str]:
    pairs, seed = plan.get("twins"), plan.get("seed")
    return {
        "kind": str(plan.get("kind")),
        "seed": "of no seed" if seed is None else f"seed {seed}",
        "twins": "without looking for near-duplicates"
        if pairs is None
        else f"with {len(pairs)} pairs of near-duplicates",
        "folds": f"{counted(len(plan.get('folds') or ()), 'fold')}",
        "test": f"{counted(len(plan.get('test') or ()), 'case')} held out",
    }


def _other_cases(was: Mapping[str, Any], now: SplitPlan) -> str:
    if sorted(was.get("test") or ()) != sorted(now.test):
        return f"was a hold-out of {len(now.test)} other cases than now"
    kept = {tuple(fold.get("val") or ()) for fold in was.get("folds") or ()}
    moved = sum(tuple(fold.val) not in kept for fold in now.folds)
    why = (
        "an earlier version made other folds of the same seed"
        if now.seed is not None
        else "its file has changed"
    )
    return f"was the same kind with other cases in {moved} of {len(now.folds)} folds; {why}"
