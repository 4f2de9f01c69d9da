"""Differences between a study as it was begun and as it is resumed, key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.common.stored_json import Unreadable, parse_json
from orchestrator.data.splits.changes import split_changes
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.store.space_changes import changes
from orchestrator.search.store.study_record import FIELDS, StudyRecord

ADVICE = "a study cannot change what it is made of; give the new one a name with --study"


def changed_keys(was: StudyRecord, now: StudyRecord) -> list[str]:
    """Names of the inputs, and of fields of the specification that may not change, that differ."""
    made_of = ("space", "splits", "datasets", "unseen", "fit_version")
    fixed = [name for name, one in FIELDS.items() if one.option.is_fixed]
    pairs: list[tuple[Any, Any, str]] = [(was.made_of, now.made_of, name) for name in made_of]
    pairs += [(was.spec, now.spec, name) for name in fixed]
    return [name for before, after, name in pairs if getattr(before, name) != getattr(after, name)]


def change_of(was: StudyRecord, now: StudyRecord, name: str) -> str:
    """Difference in one key as text: "seed: was 0, now 7"."""
    before, after = (getattr(one.spec if name in FIELDS else one.made_of, name) for one in (was, now))
    return f"{name}: was {_words(before)}, now {_words(after)}"


def dataset_changes(key: str, was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Datasets that were added, left out, or have other files, a line each; was, now: name -> fingerprint."""
    if was.keys() != now.keys():
        yield f"{key}: was {_words(sorted(was))}, now {_words(sorted(now))}"
    for name in sorted(was.keys() & now.keys()):
        if was[name] != now[name]:
            yield f"{key}: {name} holds other images, masks or groups than when the study was begun"


def space_changes(was: SearchSpace, now: SearchSpace) -> list[str]:
    """A line for each parameter of the search space that differs."""
    return [f"space, {change}" for change in changes(was, now)] or ["space: was written for another version"]


def split_problem(file: Path, plan: SplitPlan) -> str:
    """How the split differs from the stored one, in words."""
    try:
        stored = parse_json(file, dict[str, Any])
    except (Unreadable, FileNotFoundError):
        return f"splits: {file} cannot be read; the split that the study was begun with writes it again"
    return f"splits: {split_changes(stored, plan)}"


def split_kind_problem(file: Path, plan: SplitPlan) -> str | None:
    """How the kind of the split differs from that of the stored one; None where it does not, or where none reads."""
    try:
        kind = parse_json(file, dict[str, Any]).get("kind")
    except (Unreadable, FileNotFoundError):
        return None
    return None if kind == plan.kind else f"splits: was {kind}, now {plan.kind}"


def _words(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
