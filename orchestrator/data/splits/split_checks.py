"""Checks of a split plan: contradictions in itself, other data, groups on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from orchestrator.common.user_documents import MAX_TEXT
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.assign import merge
from orchestrator.data.splits.split_plan import SplitPlan, fingerprints, near_duplicates_of_sources

SHOWN = 4  # names in a message


def contradictions(plan: SplitPlan) -> list[str]:
    """Contradictions between the plan's own lists."""
    if not plan.folds:
        return ["folds: expected at least one, found none"]
    problems = []
    for fold in plan.folds:
        if not fold.train or not fold.val:
            problems.append(
                f"{fold.name}: expected cases to train on and to validate, found {len(fold.train)} and {len(fold.val)}"
            )
        if fold.test != plan.test:
            problems.append(f"{fold.name}: expected the test cases of the plan")
        listed = Counter((*fold.train, *fold.val, *fold.test, *_values(fold.dropped), *_values(plan.dropped)))
        if twice := [id for id, times in listed.items() if times > 1]:
            problems.append(f"{fold.name}: listed more than once: {_some(twice)}")
    if twice := [name for name, times in Counter(fold.name for fold in plan.folds).items() if times > 1]:
        problems.append(f"folds: expected different names, found {_some(twice)} more than once")
    fits = Counter((fold.train, fold.val) for fold in plan.folds)
    problems += [f"{times} folds are identical; keep one" for times in fits.values() if times > 1]
    validated = Counter(id for fold in plan.folds for id in fold.val)
    if len(times := set(validated.values())) > 1:
        problems.append(
            f"folds: expected all validated cases equally often, found {min(times)} to {max(times)} times"
        )
    return problems


def changed(what: str, said: Mapping[str, str], datasets: Sequence[Dataset]) -> list[str]:
    """Datasets that differ from those that the split file was made for; `said`: name -> fingerprint."""
    found = fingerprints(datasets)
    problems = [
        f"{what} {name}: is part of the split file, but was not named" for name in said.keys() - found.keys()
    ]
    problems += [
        f"{what} {name}: was named, but is not part of the split file" for name in found.keys() - said.keys()
    ]
    problems += [
        f"{what} {name}: the file was made for fingerprint {said[name]}, found {found[name]}; make the split again"
        for name in said.keys() & found.keys()
        if said[name] != found[name]
    ]
    return sorted(problems)


def unknown_or_unlisted(plan: SplitPlan, datasets: Sequence[Dataset], unseen: Sequence[Dataset]) -> list[str]:
    """Cases that the datasets do not contain, and cases of the datasets that a fold does not list."""
    sources = {case.id for dataset in datasets for case in dataset.cases}
    tests = {case.id for dataset in unseen for case in dataset.cases}
    named = {id for pair in plan.near_duplicates or () for id in pair} | plan.left_out
    planned = set(plan.test).union(*((*f.train, *f.val, *f.test, *_values(f.dropped)) for f in plan.folds))
    strange = (planned - sources) | (named - sources - tests)
    problems = [f"no dataset named here has these cases: {_some(strange)}"] if strange else []
    for fold in plan.folds:
        listed = {*fold.train, *fold.val, *plan.test, *_values(fold.dropped)} | plan.left_out
        if forgotten := sources - listed:
            problems.append(f"{fold.name}: does not list these cases: {_some(forgotten)}")
    return problems


def shared_with_advice(plan: SplitPlan, datasets: Sequence[Dataset], unseen: Sequence[Dataset]) -> list[str]:
    """Groups in more than one part, with advice where only near-duplicates connect the parts of a user's own split."""
    problems = _shared_groups(plan, datasets, unseen)
    if (
        problems
        and plan.near_duplicates
        and not _shared_groups(replace(plan, near_duplicates=None), datasets, unseen)
    ):
        problems.append(
            "only near-duplicates (frames of one place) connect these parts; --no-near-duplicates accepts the file, "
            "and all results say that near-duplicates were not searched for"
        )
    return problems


def _shared_groups(plan: SplitPlan, datasets: Sequence[Dataset], unseen: Sequence[Dataset]) -> list[str]:
    """Groups, merged across near-duplicates, that are in two parts of a fold, or in training and an unseen dataset."""
    group_of = merge(
        (case for dataset in (*datasets, *unseen) for case in dataset.cases), plan.near_duplicates or ()
    )
    problems = []
    for fold in plan.folds:
        parts = {"train": fold.train, "val": fold.val, "test": fold.test}
        groups = {part: {group_of[id] for id in ids} for part, ids in parts.items()}
        for one, other in combinations(parts, 2):
            if shared := groups[one] & groups[other]:
                problems.append(f"{fold.name}: these groups are in {one} and in {other}: {_some(shared)}")
    forgotten = (
        set(_values(near_duplicates_of_sources(datasets, unseen, plan.near_duplicates))) - plan.left_out
    )
    if forgotten:
        problems.append(
            f"these cases are unseen, but have near-duplicates in the training datasets: {_some(forgotten)}"
        )
    return problems


def _some(names: Iterable[str]) -> str:
    """The first few names, and the number of further ones."""
    listed = sorted(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(map(short, listed[:SHOWN])) + more


def short(name: str) -> str:
    """A name from the file, which may be of any length, shortened."""
    return name if len(name) <= MAX_TEXT else f"{name[:MAX_TEXT]}..."


def _values(dropped: Mapping[str, Iterable[str]]) -> list[str]:
    return [id for ids in dropped.values() for id in ids]
