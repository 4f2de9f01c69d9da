"""The JSON file of a split plan: written atomically, and rejected if it contradicts itself or the datasets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from orchestrator.common.errors import BadSplit
from orchestrator.common.files import write_atomically
from orchestrator.common.user_documents import MAX_TEXT, read_json, shown
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.proportions import lopsided
from orchestrator.data.splits.split_checks import (
    changed,
    contradictions,
    shared_with_advice,
    short,
    unknown_or_unlisted,
)
from orchestrator.data.splits.split_plan import (
    Fold,
    SplitPlan,
    earlier_name,
    fingerprints,
    name_in_files,
    near_duplicates_of_sources,
    ordered_pairs,
)

FORMAT = 2  # of a split file
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LISTED = 20  # problems of one kind in a message
MEGABYTES = 128  # largest split file: five folds of 100,000 cases take 20
MOST_FOLDS = 10_000


def write_plan(plan: SplitPlan, path: Path) -> None:
    """Write the plan as JSON, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(_content(plan), indent=1).encode())


def read_plan(
    path: Path,
    datasets: Sequence[Dataset],
    unseen: Sequence[Dataset],
    near_duplicates: Iterable[tuple[str, str]] | None = None,
) -> SplitPlan:
    """The plan in a file; BadSplit if it contradicts itself, or was made for other data.

    A user's own file needs no more than {"folds": [{"train": [ids], "val": [ids]}, ...], "test": [ids]}, and may have
    "name", and "dropped": {reason: [ids]}; it is checked against `near_duplicates`. A file from write_plan contains its
    near-duplicates.
    """
    try:
        content = TypeAdapter(dict[str, Any]).validate_python(read_json(path, BadSplit, megabytes=MEGABYTES))
        if "format" not in content:
            plan = _given(content, path, datasets, unseen, ordered_pairs(near_duplicates))
        elif content["format"] != FORMAT:
            raise BadSplit(
                str(path),
                f"format: expected {FORMAT}, found {shown(content['format'])}: an older file; make "
                "the split, and any study that uses it, again",
            )
        else:
            plan = TypeAdapter(SplitPlan).validate_python(content)
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems = [f"{short('.'.join(map(str, e['loc'])) or 'file')}: {e['msg']}" for e in found[:LISTED]]
        problems += [f"and {len(found) - LISTED} more problems"] if len(found) > LISTED else []
        raise BadSplit(str(path), problems) from error
    if len(plan.folds) > MOST_FOLDS:
        raise BadSplit(str(path), f"folds: expected at most {MOST_FOLDS:,}, found {len(plan.folds):,}")
    problems = _edits(plan, content) if "format" in content else []
    problems += contradictions(plan)
    # Of other data, the remaining problems would be misleading.
    problems += (
        changed("dataset", plan.datasets, datasets) + changed("unseen dataset", plan.unseen, unseen)
        or unknown_or_unlisted(plan, datasets, unseen)
        or shared_with_advice(plan, datasets, unseen)
    )
    if problems:
        raise BadSplit(str(path), problems)
    return plan


class _GivenFold(BaseModel):
    model_config = ConfigDict(extra="forbid")

    train: tuple[str, ...]
    val: tuple[str, ...]
    name: str | None = None
    dropped: dict[str, tuple[str, ...]] = {}


class _GivenSplit(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    folds: tuple[_GivenFold, ...]
    test: tuple[str, ...] = ()
    dropped: dict[str, tuple[str, ...]] = {}


def _given(
    content: dict[str, Any],
    path: Path,
    datasets: Sequence[Dataset],
    unseen: Sequence[Dataset],
    near_duplicates: tuple[tuple[str, str], ...] | None,
) -> SplitPlan:
    """The plan of a user's own folds."""
    given = _GivenSplit.model_validate(content)
    name = given.name if given.name is not None else path.stem
    if not PLAIN.fullmatch(name) or len(name) > MAX_TEXT:
        raise BadSplit(str(path), f"name: expected letters, digits, '.', '_' and '-', found {shown(name)}")
    test = tuple(sorted(given.test))
    folds = (
        Fold(
            index=index,
            name=fold.name or f"fold {index}",
            train=_sorted(fold.train),
            val=_sorted(fold.val),
            test=test,
            dropped=_lists(fold.dropped),
        )
        for index, fold in enumerate(given.folds)
    )
    return SplitPlan(
        kind=name,
        seed=None,
        datasets=fingerprints(datasets),
        unseen=fingerprints(unseen),
        groups_known=all(dataset.groups_known for dataset in datasets),
        near_duplicates=near_duplicates,
        folds=tuple(folds),
        test=test,
        dropped=_lists(given.dropped | near_duplicates_of_sources(datasets, unseen, near_duplicates)),
    )


def _content(plan: SplitPlan) -> dict[str, Any]:
    return {**_summary(plan), **plan.as_dict()}


def _summary(plan: SplitPlan) -> dict[str, Any]:
    """What a file says of its plan, and does not contain as a field of it."""
    return {
        "format": FORMAT,
        "name": plan.name,
        "digest": plan.digest,
        "counts": plan_counts(plan),
        **({"warning": warning} if (warning := lopsided(plan)) else {}),
    }


def plan_counts(plan: SplitPlan) -> dict[str, Any]:
    """Numbers of cases in every part, and of pairs of near-duplicates."""
    folds = [
        {
            "name": fold.name,
            "train": len(fold.train),
            "val": len(fold.val),
            "test": len(fold.test),
            "dropped": {reason: len(ids) for reason, ids in fold.dropped.items()},
        }
        for fold in plan.folds
    ]
    return {
        "folds": folds,
        "test": len(plan.test),
        "dropped": {reason: len(ids) for reason, ids in plan.dropped.items()},
        "twins": None if plan.near_duplicates is None else len(plan.near_duplicates),
    }


def _sorted(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(ids))


def _lists(dropped: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {reason: _sorted(ids) for reason, ids in sorted(dropped.items())}


def _edits(plan: SplitPlan, said: Mapping[str, Any]) -> list[str]:
    """Differences between the file and the output of write_plan for its plan."""
    expected = json.loads(json.dumps(_summary(plan)))
    if said.get("name") == earlier_name(plan.name):
        expected["name"] = said["name"]
    problems = []
    if said.get("digest") != expected["digest"]:
        problems.append(
            f"digest: expected {expected['digest']} for this content, found {shown(said.get('digest'))}; "
            "the file was edited"
        )
    problems += [
        f"{key}: expected {shown(expected.get(key))}, found {shown(said.get(key))}; the file was edited"
        for key in ("name", "counts", *(["warning"] if "warning" in said else []))  # earlier files have none
        if said.get(key) != expected.get(key)
    ]
    own = {name_in_files(one.name) for one in fields(plan)}
    strange = sorted(said.keys() - expected.keys() - own - {"warning"})
    problems += [f"{short(key)}: is not a key of a split file" for key in strange[:LISTED]]
    problems += [f"and {len(strange) - LISTED} more keys"] if len(strange) > LISTED else []
    return problems
