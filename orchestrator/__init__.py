"""Hyperparameter search and cross-validation for polyp segmentation, on Ray, Optuna and MLflow."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.api import (
        Bundle,
        add_dataset,
        compare,
        datasets,
        evaluate,
        load_bundle,
        load_study,
        near_duplicates,
        report,
        studies,
    )
    from orchestrator.api_study import NoChampion, Study
    from orchestrator.common.display import Display
    from orchestrator.common.errors import UserError
    from orchestrator.results.best_trial import BestTrial
    from orchestrator.results.stored_study import StoredStudy
    from orchestrator.search.study_spec import StudySpec

__version__ = "0.1.0"
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
    "compare",
    "datasets",
    "evaluate",
    "load_bundle",
    "load_study",
    "near_duplicates",
    "report",
    "studies",
]
# Imported when they are first named: what they need takes seconds.
_MODULES = {
    "BestTrial": "results.best_trial",
    "Display": "common.display",
    "NoChampion": "api_study",
    "StoredStudy": "results.stored_study",
    "Study": "api_study",
    "StudySpec": "search.study_spec",
    "UserError": "common.errors",
}


def __getattr__(name: str) -> Any:
    """One of the names above."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'api')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
