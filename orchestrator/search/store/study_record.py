"""Content of `study.json`: specification and inputs of a study. Compared when a study is resumed."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from orchestrator.common.errors import BadStudy, Mistakes
from orchestrator.common.names import hint
from orchestrator.common.stored_json import as_kind
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.budget.limits import Budget
from orchestrator.search.goals.constraints import limits_of
from orchestrator.search.goals.goals import primary_and_secondary
from orchestrator.search.space.keys import expected_in
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.store.optuna_storage import kept_url
from orchestrator.search.study_spec import StudySpec, spec_fields
from orchestrator.training.recipe import FIT_VERSION

SPEC = TypeAdapter(StudySpec)
FIELDS = {one.name: one for one in spec_fields()}


def specification(options: Mapping[str, Any]) -> StudySpec:
    """The specification of these options, None standing for the default. Raises one `UserError` with all problems."""
    given = {name: value for name, value in options.items() if value is not None}
    mistakes, found = Mistakes(), dict(given)
    with mistakes.noted():
        _refuse_unknown(given)
    for name, check in CHECKS.items():
        if name in given:
            found.pop(name)
            with mistakes.noted():
                found[name] = check(given[name])
    with mistakes.noted():
        spec = _validated({name: value for name, value in found.items() if name in FIELDS})
        Budget.of(spec)
    with mistakes.noted():
        _refuse_together(given)
    with mistakes.noted():
        _refuse_sampler(given.get("sampler"), found.get("objectives", StudySpec.objectives))
    mistakes.raise_all()
    return spec


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    for name in given.keys() - FIELDS.keys():
        raise BadStudy("study", f"no option is named {name}; {hint(name, FIELDS)}known: {', '.join(FIELDS)}")


def _validated(found: Mapping[str, Any]) -> StudySpec:
    try:
        return SPEC.validate_python(found)
    except ValidationError as error:
        problems = [
            f"{_flag(one['loc'])}: expected {expected_in(one['msg'])}, found {one['input']!r}"
            for one in error.errors()
        ]
        raise BadStudy("study", problems) from error


def _flag(place: Sequence[int | str]) -> str:
    """Name of an option as the command line spells it."""
    name = str(place[0])
    return (FIELDS[name].option.flag if name in FIELDS else None) or f"--{name.replace('_', '-')}"


def _refuse_together(given: Mapping[str, Any]) -> None:
    if given.get("warm_start") and given.get("nested") is not None:
        raise BadStudy(
            "--warm-start",
            "what an earlier study recommends may have been chosen on images of the outer folds, which would bias the "
            "estimate of --nested; use one of the two",
        )


def _refuse_sampler(name: Any, objectives: Sequence[str]) -> None:
    from orchestrator.search.samplers.registry import default_sampler, sampler_kind  # takes a second

    sampler_kind(name or default_sampler(len(objectives)), len(objectives))


def _objectives(names: Any) -> tuple[str, ...]:
    first, others = primary_and_secondary([names] if isinstance(names, str) else [*names])
    return (first, *others)


def _constraints(texts: Any) -> tuple[str, ...]:
    """Constraints as they are kept: "parameters <= 5000000" becomes "parameters<=5e+06"."""
    return tuple(str(limit) for limit in limits_of([texts] if isinstance(texts, str) else [*texts]))


def _names(texts: Any) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


CHECKS = {"objectives": _objectives, "constraints": _constraints, "warm_start": _names, "storage": kept_url}


class MadeOf(BaseModel):
    """Inputs of a study, as digests: space, split and datasets; in `study.json` next to the specification."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    space: str  # digest
    splits: str  # digest
    datasets: dict[str, str]  # name -> fingerprint
    unseen: dict[str, str]
    fit_version: int
    space_text: str | None = None  # SHA-256 of the file; None in studies of earlier versions


@dataclass(frozen=True)
class StudyRecord:
    """The content of `study.json`."""

    made_of: MadeOf
    spec: StudySpec

    def as_dict(self) -> dict[str, Any]:
        """All keys of `study.json` in one flat table, with plain values."""
        return self.made_of.model_dump(exclude_none=True) | asdict(self.spec)

    def resumed(self, spec: StudySpec) -> StudyRecord:
        """The record with the options of the resuming run.

        Earlier studies and the database stay where these options name none.
        """
        own = self.spec
        spec = replace(
            spec, warm_start=spec.warm_start or own.warm_start, storage=spec.storage or own.storage
        )
        return replace(self, spec=_canonical(spec))

    def with_text(self, space: SearchSpace) -> StudyRecord:
        """The record with a space of the same meaning whose file has another text."""
        return replace(self, made_of=self.made_of.model_copy(update={"space_text": text_digest(space)}))


def new_record(space: SearchSpace, plan: SplitPlan, spec: StudySpec) -> StudyRecord:
    """The record of a study that is begun now, with an id of its own."""
    made_of = MadeOf(
        id=uuid.uuid4().hex,
        space=space.digest,
        splits=plan.digest,
        datasets=plan.datasets,
        unseen=plan.unseen,
        fit_version=FIT_VERSION,
        space_text=text_digest(space),
    )
    return StudyRecord(made_of, _canonical(spec))


def text_digest(space: SearchSpace) -> str:
    """64 hex digits of the text of a search-space file."""
    return hashlib.sha256(space.text.encode()).hexdigest()


def _canonical(spec: StudySpec) -> StudySpec:
    return replace(
        spec,
        objectives=tuple(spec.objectives),
        constraints=_constraints(spec.constraints),
        warm_start=tuple(spec.warm_start),
    )


def read_record(content: Any) -> StudyRecord:
    """The record in the content of `study.json`, of this version or an earlier one. Raises `Unreadable`."""
    made_of = as_kind(content, MadeOf)
    table = _as_written_now(content)
    return StudyRecord(
        made_of, as_kind({name: table[name] for name in FIELDS.keys() & table.keys()}, StudySpec)
    )


def _as_written_now(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of earlier versions under the names of today.

    "objective" (one name) and "beside" (further ones) became "objectives". What an earlier version did not know, and
    so did not write, is the default.
    """
    table = dict(content)
    if "objectives" not in table and ("objective" in table or "beside" in table):
        table["objectives"] = [table.get("objective", "mean"), *table.get("beside", [])]
    return table
