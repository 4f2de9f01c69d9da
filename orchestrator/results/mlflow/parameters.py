"""The parameters and data of runs: everything that shapes a study, a trial or a fit, searched or not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.common.errors import BadStudy
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.mlflow.runs.run_log import DatasetUse
from orchestrator.results.provenance import environment_file
from orchestrator.search.budget.limits import Budget
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.samplers.registry import default_sampler
from orchestrator.search.space.space import Configuration
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.study_spec import StudySpec
from orchestrator.training.recipe import FitSpec

NOT_A_BUDGET = ("objectives", "constraints", "warm_start", "storage", "race", "sampler")


def study_params(store: StudyStore, plan: SplitPlan) -> dict[str, Any]:
    """Parameters of the study's run: budget, race, sampler, objectives, split, seed, data and code."""
    spec = store.spec
    plain = {name: value for name, value in asdict(spec).items() if value is not None and value is not False}
    return {
        **{name: value for name, value in plain.items() if name not in NOT_A_BUDGET},
        "budget": _budget(spec),
        "race": spec.chosen_race,
        "sampler": spec.sampler or default_sampler(len(spec.objectives)),
        "objectives": ", ".join(spec.objectives),
        "constraints": ", ".join(spec.constraints) or "none",
        "warm_started_from": ", ".join(spec.warm_start) or "none",
        "split": plan.name,
        "num_folds": len(plan.folds),
        "hold_out_cases": len(plan.test),
        "datasets": ", ".join(plan.datasets),
        "unseen_datasets": ", ".join(plan.unseen) or "none",
        "search_space": store.record().made_of.space,
    } | _code(store.folder)


def trial_params(configuration: Configuration, params: Mapping[str, Any]) -> dict[str, Any]:
    """The whole configuration of a trial: `params`, searched and fixed, and what these leave at its default."""
    return configuration.recipe.model_dump(mode="json") | dict(params)


def fit_params(spec: FitSpec, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the fit's trial, with the seed and fold of this fit."""
    recipe = spec.recipe.model_dump(mode="json")
    stop = {} if spec.stop_after is None else {"stop_after": spec.stop_after}
    return (
        recipe
        | dict(params)
        | {"seed": recipe["seed"], "fold": spec.fold.replace("again", "re-evaluation", 1)}
        | stop
    )


def fit_datasets(spec: FitSpec) -> list[DatasetUse]:
    """The data of a fit: the images of each dataset that it was trained on, and those that it was validated on.

    MLflow keeps one dataset of a name and digest, so the digest is of these images: the fingerprint of their dataset
    and their names.
    """
    uses = []
    for context, case_ids in (("training", spec.train), ("validation", spec.val)):
        for name in dict.fromkeys(case_id.split("/")[0] for case_id in case_ids):
            own = sorted(case_id for case_id in case_ids if case_id.split("/")[0] == name)
            digest = hashlib.sha256("\n".join((spec.datasets[name], *own)).encode()).hexdigest()
            uses.append(DatasetUse(name, digest, len(own), context))
    return uses


def ended(record: FitRecord) -> int:
    """When a fit was finished, in milliseconds."""
    return round(1000 * (record.folder / "record.json").stat().st_mtime)


def length(record: FitRecord) -> int:
    """Duration of a fit in milliseconds."""
    return round(1000 * record.seconds)


def source_tags(study_folder: Path) -> dict[str, str]:
    """Tags that MLflow shows as source and version of a run: this program, revision of its last search."""
    revision = str(_environment(study_folder).get("git_revision", "unknown"))
    source = {"mlflow.source.name": "orchestrator search", "mlflow.source.type": "LOCAL"}
    if revision == "unknown":
        return source
    return source | {"mlflow.source.git.commit": revision.rstrip("+"), "git_revision": revision}


def _budget(spec: StudySpec) -> str:
    """The budget in words; studies of earlier versions kept none."""
    try:
        return str(Budget.of(spec))
    except BadStudy:
        return "not on record"


def _code(study_folder: Path) -> dict[str, str]:
    environment = _environment(study_folder)
    return {name: str(environment[name]) for name in ("git_revision", "python") if name in environment}


def _environment(study_folder: Path) -> dict[str, Any]:
    """The environment of the last search; empty where an earlier version kept none."""
    try:
        return dict(json.loads(environment_file(study_folder).read_text()))
    except (FileNotFoundError, ValueError):
        return {}
