"""Split plans by their number of folds."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.data.cases import Dataset
from orchestrator.data.splits.plan import make_plan
from orchestrator.data.splits.split_plan import SplitPlan


def five_fold(
    datasets: Sequence[Dataset],
    *,
    seed: int,
    holdout: float = 0.1,
    num_folds: int = 5,
    unseen: Sequence[Dataset] = (),
    near_duplicates: Sequence[tuple[str, str]] | None = None,
) -> SplitPlan:
    """K folds of the cases that are not held out: see make_plan."""
    return make_plan(
        f"k-fold:{num_folds}",
        datasets,
        seed=seed,
        holdout=holdout,
        unseen=unseen,
        near_duplicates=near_duplicates,
    )
