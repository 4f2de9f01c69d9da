"""Tags of the runs of a study, which keep runs of different studies apart in MLflow."""

from __future__ import annotations

from orchestrator.data.cases import Dataset
from orchestrator.data.splits.proportions import listed_reasons, lopsided
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.store.study_store import StudyStore, whole_study

# The tag of an experiment that says by which layout, and of which study, it was written to its end.
WRITTEN_AS = "written_as"


def study_tags(store: StudyStore, plan: SplitPlan | None = None) -> dict[str, str]:
    """The tags of every run of a study; `plan`: where it was read already."""
    objectives = ", ".join([store.objective().label(), *store.secondary().names])
    tags = {"study_id": store.study_id, "objective": objectives} | split_tags(plan or store.plan())
    whole = whole_study(store.home, store.name)
    return tags if whole == store.name else tags | {"outer_fold_of": whole}


def split_tags(plan: SplitPlan) -> dict[str, str]:
    """MLflow tags that describe the split of the cases."""
    pairs = plan.num_near_duplicates
    return {
        "split": plan.name,
        "split_digest": plan.digest,
        "near_duplicate_pairs": "not looked for" if pairs is None else str(sum(pairs)),
        "near_duplicate_pairs_between": "not looked for" if pairs is None else str(pairs.between),
        "dropped_cases": listed_reasons(plan.num_dropped) or "0",
        "hold_out_cases": str(len(plan.test)),
    } | ({"split_warning": warning} if (warning := lopsided(plan)) else {})


def dataset_use(dataset: Dataset, context: str) -> tuple[str, str, int, str]:
    """Name, fingerprint, number of cases, and "source" (searched on) or "unseen" (scored once, at the end)."""
    return dataset.name, dataset.fingerprint, len(dataset.cases), context
