"""Hyperparameter search and cross-validation for polyp segmentation, on Ray, Optuna and MLflow."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.api.datasets import (
        add_dataset,
        check_dataset,
        dataset,
        datasets,
        describe_dataset,
        draw_dataset,
        layouts,
        near_duplicates,
        remove_dataset,
    )
    from orchestrator.api.disk import cached, freeable, prune_cache
    from orchestrator.api.exports import Bundle, evaluate, load_bundle, predict, verify_export
    from orchestrator.api.fits import fit
    from orchestrator.api.inputs import check_space, combine_spaces, preview, space_schema, split
    from orchestrator.api.jobs import job, jobs
    from orchestrator.api.machines import check_machine
    from orchestrator.api.networks import network, networks
    from orchestrator.api.pages import ui
    from orchestrator.api.papers import papers, reproduce
    from orchestrator.api.studies import compare, load_study, remove_study, report, studies, sync
    from orchestrator.api.study import NoChampion, Study
    from orchestrator.command_jobs import cluster_file, submit
    from orchestrator.common.display import Display
    from orchestrator.common.errors import UserError
    from orchestrator.results.best_trial import BestTrial
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.search.study_spec import StudySpec

__version__ = "0.1.0"
# Module -> names. Imported when they are first named: what they need takes seconds.
_MODULES = {
    "api.datasets": (
        "add_dataset",
        "check_dataset",
        "dataset",
        "datasets",
        "describe_dataset",
        "draw_dataset",
        "layouts",
        "near_duplicates",
        "remove_dataset",
    ),
    "api.disk": (
        "cached",
        "freeable",
        "prune_cache",
    ),
    "api.exports": (
        "Bundle",
        "evaluate",
        "load_bundle",
        "predict",
        "verify_export",
    ),
    "api.fits": ("fit",),
    "api.inputs": (
        "check_space",
        "combine_spaces",
        "preview",
        "space_schema",
        "split",
    ),
    "api.jobs": (
        "job",
        "jobs",
    ),
    "api.machines": ("check_machine",),
    "api.networks": (
        "network",
        "networks",
    ),
    "api.pages": ("ui",),
    "api.papers": (
        "papers",
        "reproduce",
    ),
    "api.studies": (
        "compare",
        "load_study",
        "remove_study",
        "report",
        "studies",
        "sync",
    ),
    "api.study": (
        "NoChampion",
        "Study",
    ),
    "common.display": ("Display",),
    "common.errors": ("UserError",),
    "command_jobs": (
        "cluster_file",
        "submit",
    ),
    "results.best_trial": ("BestTrial",),
    "results.stored_study": ("StoredStudy",),
    "search.study_spec": ("StudySpec",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [
    "BestTrial",
    "Bundle",
    "Display",
    "NoChampion",
    "StoredStudy",
    "Study",
    "StudySpec",
    "UserError",
    "add_dataset",
    "cached",
    "check_dataset",
    "check_machine",
    "check_space",
    "cluster_file",
    "combine_spaces",
    "compare",
    "dataset",
    "datasets",
    "describe_dataset",
    "draw_dataset",
    "evaluate",
    "fit",
    "freeable",
    "job",
    "jobs",
    "layouts",
    "load_bundle",
    "load_study",
    "near_duplicates",
    "network",
    "networks",
    "papers",
    "predict",
    "preview",
    "prune_cache",
    "remove_dataset",
    "remove_study",
    "report",
    "reproduce",
    "space_schema",
    "split",
    "studies",
    "submit",
    "sync",
    "ui",
    "verify_export",
]


def __getattr__(name: str) -> Any:
    """A public name, imported from its module at its first use. AttributeError for any other name."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
