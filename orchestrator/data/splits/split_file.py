"""A split plan and its JSON file: written atomically, and rejected if it contradicts itself or the datasets."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from orchestrator.common.errors import BadSplit
from orchestrator.common.files import write_atomically
from orchestrator.common.user_documents import MAX_TEXT, read_json, shown
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.assign import merge
from orchestrator.data.splits.proportions import lopsided

FORMAT = 2  # of a split file
BY_NEAR_DUPLICATES = "-by-near-duplicates"  # in the name of a plan whose groups are these
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SHOWN = 4  # names in a message
LISTED = 20  # problems of one kind in a message
MEGABYTES = 128  # largest split file: five folds of 100,000 cases take 20
MOST_FOLDS = 10_000
NEAR_DUPLICATE_OF_SOURCE = (
    "twin in the training datasets"  # reason, in split files, for dropping an unseen case
)


class NearDuplicateCounts(NamedTuple):
    """Pairs of near-duplicate cases."""

    within: int  # of one dataset
    between: int  # of two

    def __str__(self) -> str:
        return f"{self.within} pairs within datasets and {self.between} between them"


@dataclass(frozen=True)
class Fold:
    """Case ids, sorted; train, val and test share no group and no near-duplicates."""

    index: int
    name: str  # "fold 0", "repeat 1 fold 0", "center PolypGen/C3", "dataset Kvasir-SEG"
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    dropped: dict[str, tuple[str, ...]]  # reason -> ids that this fold leaves out


@dataclass(frozen=True)
class SplitPlan:
    """Folds over the cases of some datasets, and the cases that the search does not use."""

    kind: str  # "five-fold", "3-fold", "repeated-2x5", "leave-one-center-out", or the name of a given split
    seed: int | None  # None: the folds were given
    datasets: dict[str, str]  # name -> fingerprint
    unseen: dict[str, str]  # name -> fingerprint; scored once, never trained on
    groups_known: bool
    # Pairs of ids of near-duplicates; None: not searched for. Files call them "twins".
    near_duplicates: Annotated[
        tuple[tuple[str, str], ...] | None,
        Field(validation_alias=AliasChoices("twins", "near_duplicates")),
    ]
    folds: tuple[Fold, ...]
    test: tuple[str, ...]  # held out of every fold; scored once, for champions
    dropped: dict[str, tuple[str, ...]]  # reason -> ids that no fold trains on, validates or tests

    @property
    def name(self) -> str:
        """The kind, a suffix where not all groups are known, and the seed."""
        by = "" if self.groups_known else "-by-image" if self.near_duplicates is None else BY_NEAR_DUPLICATES
        return f"{self.kind}{by}" + ("" if self.seed is None else f"-seed{self.seed}")

    @property
    def digest(self) -> str:
        """32 hex digits of a hash of the whole plan."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:32]

    def as_dict(self) -> dict[str, Any]:
        """The fields under their names in files."""
        return {"twins" if key == "near_duplicates" else key: value for key, value in asdict(self).items()}

    @property
    def num_repeats(self) -> int:
        """Number of folds that validate a case, equal for all validated cases."""
        return max(Counter(id for fold in self.folds for id in fold.val).values())

    @property
    def num_dropped(self) -> dict[str, int]:
        """Reason -> number of dropped cases, counted once for every fold that drops them."""
        dropped: Counter[str] = Counter()
        for lists in (self.dropped, *(fold.dropped for fold in self.folds)):
            dropped.update({reason: len(ids) for reason, ids in lists.items()})
        return dict(sorted(dropped.items()))

    @property
    def num_near_duplicates(self) -> NearDuplicateCounts | None:
        """Pairs of near-duplicates; None if they were not searched for."""
        return None if self.near_duplicates is None else count_near_duplicates(self.near_duplicates)

    @property
    def num_unseen_near_duplicates(self) -> int:
        """Number of unseen cases that are dropped, because they have near-duplicates in the training datasets."""
        return len(self.dropped.get(NEAR_DUPLICATE_OF_SOURCE, ()))

    @property
    def left_out(self) -> frozenset[str]:
        """Cases that no fold uses in any way."""
        return frozenset(id for ids in self.dropped.values() for id in ids)


def fingerprints(datasets: Iterable[Dataset]) -> dict[str, str]:
    """Dataset name -> fingerprint, sorted by name."""
    return {dataset.name: dataset.fingerprint for dataset in sorted(datasets, key=lambda d: d.name)}


def ordered_pairs(near_duplicates: Iterable[tuple[str, str]] | None) -> tuple[tuple[str, str], ...] | None:
    """Each pair once, sorted."""
    return (
        None
        if near_duplicates is None
        else tuple(sorted({(min(pair), max(pair)) for pair in near_duplicates}))
    )


def count_near_duplicates(near_duplicates: Sequence[tuple[str, str]]) -> NearDuplicateCounts:
    """Numbers of these pairs of case ids within one dataset and between two."""
    between = sum(one.split("/")[0] != other.split("/")[0] for one, other in near_duplicates)
    return NearDuplicateCounts(len(near_duplicates) - between, between)


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
        problems = [f"{_short('.'.join(map(str, e['loc'])) or 'file')}: {e['msg']}" for e in found[:LISTED]]
        problems += [f"and {len(found) - LISTED} more problems"] if len(found) > LISTED else []
        raise BadSplit(str(path), problems) from error
    if len(plan.folds) > MOST_FOLDS:
        raise BadSplit(str(path), f"folds: expected at most {MOST_FOLDS:,}, found {len(plan.folds):,}")
    problems = _edits(plan, content) if "format" in content else []
    problems += _contradictions(plan)
    # Of other data, the remaining problems would be misleading.
    problems += (
        _changed("dataset", plan.datasets, datasets) + _changed("unseen dataset", plan.unseen, unseen)
        or _unknown_or_unlisted(plan, datasets, unseen)
        or _shared_with_advice(plan, datasets, unseen)
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


def near_duplicates_of_sources(
    datasets: Sequence[Dataset], unseen: Sequence[Dataset], near_duplicates: Iterable[tuple[str, str]] | None
) -> dict[str, tuple[str, ...]]:
    """Reason -> unseen cases that cannot test anything: their group has a near-duplicate in the other datasets."""
    group_of = merge(
        (case for dataset in (*datasets, *unseen) for case in dataset.cases), near_duplicates or ()
    )
    seen = {group_of[case.id] for dataset in datasets for case in dataset.cases}
    ids = [case.id for dataset in unseen for case in dataset.cases if group_of[case.id] in seen]
    return {NEAR_DUPLICATE_OF_SOURCE: tuple(sorted(ids))} if ids else {}


def earlier_name(name: str) -> str:
    """The name of a split plan, or one that contains it, as earlier versions wrote it."""
    return name.replace(BY_NEAR_DUPLICATES, "-by-twins")


def _content(plan: SplitPlan) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": plan.name,
        "digest": plan.digest,
        "counts": plan_counts(plan),
        **({"warning": warning} if (warning := lopsided(plan)) else {}),
        **plan.as_dict(),
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
    expected = json.loads(json.dumps(_content(plan)))
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
    strange = sorted(said.keys() - expected.keys() - {"warning"})
    problems += [f"{_short(key)}: is not a key of a split file" for key in strange[:LISTED]]
    problems += [f"and {len(strange) - LISTED} more keys"] if len(strange) > LISTED else []
    return problems


def _contradictions(plan: SplitPlan) -> list[str]:
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


def _changed(what: str, said: Mapping[str, str], datasets: Sequence[Dataset]) -> list[str]:
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


def _unknown_or_unlisted(
    plan: SplitPlan, datasets: Sequence[Dataset], unseen: Sequence[Dataset]
) -> list[str]:
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


def _shared_with_advice(plan: SplitPlan, datasets: Sequence[Dataset], unseen: Sequence[Dataset]) -> list[str]:
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
    return ", ".join(map(_short, listed[:SHOWN])) + more


def _short(name: str) -> str:
    return name if len(name) <= MAX_TEXT else f"{name[:MAX_TEXT]}..."


def _values(dropped: Mapping[str, Iterable[str]]) -> list[str]:
    return [id for ids in dropped.values() for id in ids]
