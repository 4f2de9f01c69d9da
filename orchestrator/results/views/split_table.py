"""Summary of a split: parts of every fold in numbers, as a table for people and as values for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from orchestrator.data.cases import Case, Dataset
from orchestrator.data.splits.plan import group_of_case
from orchestrator.data.splits.proportions import lopsided
from orchestrator.data.splits.split_plan import SplitPlan


@dataclass(frozen=True)
class PartFacts:
    """Counts of the cases in one part of a split."""

    fold: str | None  # its name; None for what no fold sees
    part: str  # "train", "val", "hold-out test", or "unseen" and the dataset's name
    num_cases: int
    num_groups: int  # merged with their near-duplicates; single images where groups are unknown
    polyp_area: float  # mean share of the frame, 0 to 1, polyp-free cases included
    num_empty: int  # cases without a polyp
    centers: dict[str, int]  # "DATASET/CENTER", or "DATASET" where a case has no center -> cases
    dropped: dict[str, int]  # reason -> cases that would have been validated or tested here


def split_facts(plan: SplitPlan, datasets: Sequence[Dataset], unseen: Sequence[Dataset]) -> list[PartFacts]:
    """Training and validation of every fold, then the hold-out test, then each unseen dataset."""
    cases = {case.id: case for dataset in (*datasets, *unseen) for case in dataset.cases}
    group_of = group_of_case((*datasets, *unseen), plan.near_duplicates)

    def facts(
        fold: str | None, part: str, ids: Iterable[str], dropped: Mapping[str, Sequence[str]]
    ) -> PartFacts:
        return _facts(fold, part, [cases[id] for id in ids], group_of, dropped)

    rows = []
    for fold in plan.folds:
        rows += [facts(fold.name, "train", fold.train, {}), facts(fold.name, "val", fold.val, fold.dropped)]
    if plan.test:
        rows.append(facts(None, "hold-out test", plan.test, {}))
    left_out = plan.left_out
    for dataset in unseen:
        own = {case.id for case in dataset.cases}
        dropped = {reason: sorted(own.intersection(ids)) for reason, ids in plan.dropped.items()}
        rows.append(facts(None, f"unseen {dataset.name}", sorted(own - left_out), dropped))
    return rows


def split_table(plan: SplitPlan, rows: Sequence[PartFacts]) -> Table:
    """Table with a row for the validation part of each fold, and one for each part outside the folds."""
    table = Table(title=_title(plan), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("validated", overflow="fold", no_wrap=True)
    for head in ("train", "cases", "groups", "polyp area", "empty", "dropped"):
        table.add_column(head, justify="right")
    table.add_column("centers", overflow="fold")
    num_train = {row.fold: row.num_cases for row in rows if row.part == "train"}
    for row in rows:
        if row.part == "train":
            continue
        table.add_row(
            escape(row.fold or row.part),
            str(num_train[row.fold]) if row.fold else "",
            str(row.num_cases),
            str(row.num_groups),
            f"{row.polyp_area:.2%}",
            str(row.num_empty),
            str(sum(row.dropped.values())),
            escape("  ".join(f"{name} {count}" for name, count in row.centers.items())),
        )
    return table


def split_dict(plan: SplitPlan, rows: Sequence[PartFacts]) -> dict[str, Any]:
    """The parts of the split as plain values."""
    return {
        "name": plan.name,
        "kind": plan.kind,
        "seed": plan.seed,
        "digest": plan.digest,
        "groups_known": plan.groups_known,
        "near_duplicates": None if plan.num_near_duplicates is None else plan.num_near_duplicates._asdict(),
        "repeats": plan.num_repeats,
        "dropped": plan.num_dropped,
        "warning": lopsided(plan),
        "parts": [asdict(row) for row in rows],
    }


def _facts(
    fold: str | None,
    part: str,
    cases: Sequence[Case],
    group_of: Mapping[str, str],
    dropped: Mapping[str, Sequence[str]],
) -> PartFacts:
    centers = Counter(f"{case.dataset}/{case.center}" if case.center else case.dataset for case in cases)
    return PartFacts(
        fold=fold,
        part=part,
        num_cases=len(cases),
        num_groups=len({group_of[case.id] for case in cases}),
        polyp_area=fsum(case.polyp_fraction for case in cases) / max(len(cases), 1),
        num_empty=sum(case.polyp_fraction == 0 for case in cases),
        centers=dict(sorted(centers.items())),
        dropped={reason: len(ids) for reason, ids in dropped.items() if ids},
    )


def _title(plan: SplitPlan) -> str:
    groups = "known groups" if plan.groups_known else "groups unknown"
    near_duplicates = "not looked for" if plan.num_near_duplicates is None else str(plan.num_near_duplicates)
    return f"{plan.name}: {groups}; near-duplicates: {near_duplicates}; digest {plan.digest[:12]}"
