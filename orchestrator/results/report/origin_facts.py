"""Origin of a study: its datasets with the numbers of their cases, and the commands that reproduce it."""

from __future__ import annotations

import shlex
from collections import Counter

import numpy as np

from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_plan import NEAR_DUPLICATE_OF_SOURCE, SplitPlan
from orchestrator.data.statement import stated
from orchestrator.results.report.facts import DatasetFacts
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.study_spec import spec_fields

# Reasons in split files, in today's words.
REASONS = {NEAR_DUPLICATE_OF_SOURCE: "near-duplicates of images of the datasets searched on"}


def dataset_facts(snapshot: StudySnapshot) -> tuple[DatasetFacts, ...]:
    """Datasets that the study trains on, then those that it only tests on."""
    plan = snapshot.plan
    return (
        *(_facts(one, "searched on", plan) for one in snapshot.datasets),
        *(_facts(one, "external", plan) for one in snapshot.unseen),
    )


def _facts(dataset: Dataset, role: str, plan: SplitPlan) -> DatasetFacts:
    ids = {case.id for case in dataset.cases}
    in_folds = {case_id for fold in plan.folds for case_id in (*fold.train, *fold.val)}
    dropped = {REASONS.get(why, why): len(ids & set(some)) for why, some in plan.dropped.items()}
    sizes = np.median([(case.height, case.width) for case in dataset.cases], axis=0)
    return DatasetFacts(
        name=dataset.name,
        role=role,
        num_cases=len(ids),
        num_groups=len({case.group for case in dataset.cases}) if dataset.groups_known else None,
        num_centers=len({case.center for case in dataset.cases if case.center}),
        num_empty=sum(case.polyp_fraction == 0 for case in dataset.cases),
        skipped=dict(Counter(bad.why for bad in dataset.skipped)),
        dropped={why: count for why, count in dropped.items() if count},
        num_test=len(ids & set(plan.test)),
        num_in_folds=len(ids & in_folds),
        fingerprint=dataset.fingerprint,
        layout=dataset.layout,
        remarks=dataset.remarks,
        card=stated(dataset.folder),
        frame=(int(sizes[0]), int(sizes[1])),
    )


def commands(snapshot: StudySnapshot) -> list[str]:
    """Commands for data, search and result, in order; space and split are files: nothing is drawn again."""
    plan, name = snapshot.plan, snapshot.name
    added = [
        f"orchestrator data add {shlex.quote(one.name)} FOLDER   # fingerprint {one.fingerprint}"
        for one in (*snapshot.datasets, *snapshot.unseen)
    ]
    words = ["orchestrator", "search", "space.toml", "--study", name, "--splits", "splits.json"]
    words += [word for one in plan.datasets for word in ("--data", one)]
    words += [word for one in plan.unseen for word in ("--unseen", one)]
    return [*added, shlex.join([*words, *_options(snapshot)]), shlex.join(["orchestrator", "best", name])]


def _options(snapshot: StudySnapshot) -> list[str]:
    """Options of the last run that are not the default."""
    spec, words = snapshot.record.spec, list[str]()
    for field in spec_fields():
        value, default = getattr(spec, field.name), field.default
        if value == default or field.name == "storage":
            continue
        flag = field.option.flag or f"--{field.name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag)
        else:
            for one in value if isinstance(value, tuple) else (value,):
                words += [flag, str(one)]
    return words
