"""Who trains, validates and is tested: folds that no group straddles, in a file that a paper can cite."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orchestrator.data.cases import Dataset
from orchestrator.data.deal import Group, deal, gather, hold_out
from orchestrator.errors import BadSplit

FORMAT = 1  # of a split file


@dataclass(frozen=True)
class Fold:
    """Case ids, sorted; no two of the three share a group."""

    index: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class SplitPlan:
    """Folds over the cases of some datasets, and what is kept back from the search."""

    name: str
    kind: str  # "five-fold", "3-fold"
    seed: int
    datasets: dict[str, str]  # name -> fingerprint
    groups_known: bool
    folds: tuple[Fold, ...]
    test: tuple[str, ...]  # held out of every fold; scored once, for champions
    unseen: dict[str, str]  # name -> fingerprint; scored once, never trained on

    @property
    def digest(self) -> str:
        """32 hex digits that follow from everything the plan says, except its name."""
        content = {key: value for key, value in asdict(self).items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def five_fold(
    datasets: Sequence[Dataset],
    *,
    seed: int,
    holdout: float = 0.1,
    num_folds: int = 5,
    unseen: Sequence[Dataset] = (),
) -> SplitPlan:
    """Set about `holdout` of the cases aside, deal the rest into folds: whole groups, alike in polyp area.

    The same seed gives the same plan on every machine, in whatever order datasets and cases come.
    """
    _refuse(datasets, holdout, num_folds, unseen)
    groups = gather(case for dataset in datasets for case in dataset.cases)
    held_out, rest = hold_out(groups, holdout, seed, keep=num_folds)
    if len(rest) < num_folds:
        raise BadSplit("splits", _too_few(len(groups), num_folds, holdout))
    test = _ids(held_out)
    everyone = set(_ids(rest))
    groups_known = all(dataset.groups_known for dataset in datasets)
    kind = "five-fold" if num_folds == 5 else f"{num_folds}-fold"
    return SplitPlan(
        name=f"{kind}{'' if groups_known else '-by-image'}-seed{seed}",
        kind=kind,
        seed=seed,
        datasets=_fingerprints(datasets),
        groups_known=groups_known,
        folds=tuple(
            Fold(index, train=tuple(sorted(everyone - set(val))), val=val, test=test)
            for index, val in enumerate(map(_ids, deal(rest, num_folds, seed)))
        ),
        test=test,
        unseen=_fingerprints(unseen),
    )


def write_plan(plan: SplitPlan, path: Path) -> None:
    """JSON for people and programs; the file appears whole or not at all."""
    content = {"format": FORMAT, "digest": plan.digest, "counts": _counts(plan), **asdict(plan)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_plan(path: Path, datasets: Sequence[Dataset], unseen: Sequence[Dataset]) -> SplitPlan:
    """The plan in that file; BadSplit if it contradicts itself, or these are not the data it was made for."""
    try:
        content = TypeAdapter(dict[str, Any]).validate_json(path.read_bytes())
        plan = TypeAdapter(SplitPlan).validate_python(content)
    except OSError as error:
        raise BadSplit(str(path), f"expected a split file, found {error.strerror}") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
        raise BadSplit(str(path), problems) from error
    problems = _contradictions(plan, content)
    problems += _changed("dataset", plan.datasets, datasets) + _changed("unseen dataset", plan.unseen, unseen)
    group_of = {case.id: case.group for dataset in datasets for case in dataset.cases}
    problems += _strangers(plan, group_of) or _straddling(plan, group_of)
    if problems:
        raise BadSplit(str(path), problems)
    return plan


def _refuse(datasets: Sequence[Dataset], holdout: float, num_folds: int, unseen: Sequence[Dataset]) -> None:
    names = Counter(dataset.name for dataset in (*datasets, *unseen))
    problems = [f"{name} is named {count} times; name it once" for name, count in names.items() if count > 1]
    contents: dict[str, str] = {}
    for dataset in (*datasets, *unseen):
        other = contents.setdefault(dataset.fingerprint, dataset.name)
        if other != dataset.name:
            problems.append(f"{dataset.name} has the same content as {other}; name one of them")
    if not datasets:
        problems.append("expected at least one dataset to split, found none")
    if not 0 <= holdout < 1:
        problems.append(f"holdout: expected a share from 0 to below 1, found {holdout}")
    if num_folds < 2:
        problems.append(f"expected at least 2 folds, found {num_folds}")
    if problems:
        raise BadSplit("splits", problems)


def _too_few(num_groups: int, num_folds: int, holdout: float) -> str:
    """What would work with the groups there are."""
    kept = 1 if holdout > 0 else 0
    asked = f"{num_folds} folds and a hold-out" if kept else f"{num_folds} folds"
    most = num_groups - kept
    advice = f"up to {most} folds" if most >= 2 else "more data"
    return (
        f"{asked} of {holdout:.0%}: expected enough groups (videos, patients) for each to get one, "
        f"found {num_groups}; {advice}, or a smaller hold-out, may work"
    )


def _ids(groups: Iterable[Group]) -> tuple[str, ...]:
    return tuple(sorted(id for group in groups for id in group.cases))


def _fingerprints(datasets: Iterable[Dataset]) -> dict[str, str]:
    return {dataset.name: dataset.fingerprint for dataset in sorted(datasets, key=lambda d: d.name)}


def _counts(plan: SplitPlan) -> dict[str, Any]:
    folds = [{"train": len(fold.train), "val": len(fold.val), "test": len(fold.test)} for fold in plan.folds]
    return {"folds": folds, "test": len(plan.test)}


def _contradictions(plan: SplitPlan, said: Mapping[str, Any]) -> list[str]:
    """Where the file is not what write_plan made of a plan by five_fold."""
    problems = []
    if said.get("format") != FORMAT:
        problems.append(f"format: expected {FORMAT}, found {said.get('format')}")
    if (digest := said.get("digest")) != plan.digest:
        problems.append(
            f"digest: expected {plan.digest} for this content, found {digest}; the file was edited"
        )
    if (counts := said.get("counts")) != _counts(plan):
        problems.append(f"counts: expected {_counts(plan)}, found {counts}")
    validated = Counter(id for fold in plan.folds for id in fold.val)
    for fold in plan.folds:
        if set(fold.train) | set(fold.val) != set(validated):
            problems.append(f"fold {fold.index}: expected train and val to hold all cases that are validated")
        if fold.test != plan.test:
            problems.append(f"fold {fold.index}: expected the test cases of the plan")
    problems += [
        f"{id}: validated in {count} folds, expected one" for id, count in validated.items() if count > 1
    ]
    return problems


def _changed(what: str, said: Mapping[str, str], datasets: Sequence[Dataset]) -> list[str]:
    found = _fingerprints(datasets)
    problems = [
        f"{what} {name}: the file splits it, but it was not named" for name in said.keys() - found.keys()
    ]
    problems += [
        f"{what} {name}: named, but the file says nothing of it" for name in found.keys() - said.keys()
    ]
    problems += [
        f"{what} {name}: the file was made for fingerprint {said[name]}, found {found[name]}; split anew"
        for name in said.keys() & found.keys()
        if said[name] != found[name]
    ]
    return sorted(problems)


def _strangers(plan: SplitPlan, group_of: Mapping[str, str]) -> list[str]:
    """Cases that the datasets do not hold, and cases of the datasets that the plan forgot."""
    planned = {id for fold in plan.folds for id in (*fold.train, *fold.val)} | set(plan.test)
    problems = [f"{id}: no dataset named here has this case" for id in sorted(planned - group_of.keys())]
    return problems + [f"{id}: in no fold and not in test" for id in sorted(group_of.keys() - planned)]


def _straddling(plan: SplitPlan, group_of: Mapping[str, str]) -> list[str]:
    problems = []
    for fold in plan.folds:
        parts = {"train": fold.train, "val": fold.val, "test": fold.test}
        groups = {part: {group_of[id] for id in ids} for part, ids in parts.items()}
        for one, other in combinations(parts, 2):
            shared = sorted(groups[one] & groups[other])
            problems += [f"fold {fold.index}: group {group} is in {one} and in {other}" for group in shared]
    return problems
