"""Saved views of the run table, which MLflow's page keeps as tags of the experiment, for everybody who opens it.

The tag `mlflow.sharedViewState.ID` holds JSON: a name, the time it was made, and the state of the page as text, which
may be JSON or, after "deflate;", compressed JSON in base64. MLflow 3.17 reads it; earlier releases, which know shared
links alone, read the state itself, so they show the table as it is without a view.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.results.mlflow.runs.run_log import RENAMED
from orchestrator.results.sinks.measures import CROSS_FITTED

VIEW = "mlflow.sharedViewState."
TRAINING = (
    "workflowType=machine_learning"  # of a page's address: as for training, where it begins with agents else
)
FIRST = "trials"  # the id of the view that is opened first
AT = 1_700_000_000_000  # milliseconds: the same views are the same text


def view_tags(
    searched: Sequence[str], metrics: Sequence[str], followed: Sequence[str], num_folds: int
) -> dict[str, str]:
    """Tags with the saved views of a study that searches these parameters.

    `metrics`: further metrics of its objective; `followed`: names of images that runs have for each epoch.
    """
    known = ["dice"] if num_folds == 1 else ["dice", CROSS_FITTED]  # the limits are those of the last one
    scores = [*known, *(f"{known[-1]}_{end}" for end in ("low", "high")), *metrics]
    seen = ["folds_seen", "dice_on_seen_folds", "paired_difference"]
    searched = [RENAMED.get(name, name) for name in searched]
    params = _columns("params", searched)
    views = {
        FIRST: _view(
            "Trials by Dice",
            "tags.role = 'trial'",
            [
                *_columns("metrics", scores),
                *params,
                *_columns("metrics", seen),
                *_columns("tags", ["state", "champion"]),
                *_columns("metrics", ["seconds"]),
            ],
            order="metrics.`dice`",
            charts=_trial_charts(searched),
            wide=_parallel(searched),
            rank=4,
        ),
        "followed": _view(
            "Cases from epoch to epoch",
            "tags.`mlflow.loggedImages` = 'True'",
            [*_columns("metrics", ["dice", "val_dice"]), *params],
            order="metrics.`dice`",
            charts=[_images(followed), _line("val_dice")],
            rank=2,
        ),
        "folds": _view(
            "Folds and their curves",
            "tags.role = 'fold'",
            [
                *_columns("tags", ["trial", "fold"]),
                *_columns(
                    "metrics",
                    ["dice", "own_threshold_dice", "best_epoch", "val_dice", "train_loss", "val_loss"],
                ),
                *params,
                *_columns("metrics", ["seconds"]),
            ],
            order="attributes.start_time",
            charts=[_line("val_dice"), _line("train_loss", "val_loss"), _line("lr")],
            rank=3,
            group=_by_tag("trial"),
        ),
        "networks": _view(
            "Exported networks",
            "tags.network_of != ''",
            [
                *_columns("tags", ["network_of"]),
                *_columns("metrics", ["test_dice", "threshold", "num_train_images", "epochs_run"]),
                *params,
                _column("attributes", "Models"),
            ],
            order="attributes.start_time",
            charts=[],
            rank=1,
            group=_by_tag("network_of"),  # that of a fold would be hidden below its trial else
        ),
    }
    return {f"{VIEW}{name}": view for name, view in views.items()}


def _view(
    name: str,
    search: str,
    columns: Sequence[str],
    *,
    order: str,
    charts: Sequence[Mapping[str, Any]],
    rank: int,
    wide: Sequence[Mapping[str, Any]] = (),
    group: Mapping[str, Any] | None = None,
) -> str:
    """One saved view; those of a higher `rank` are listed first."""
    state = {
        "searchFilter": search,
        "orderByKey": order,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
        "useGroupedValuesInCharts": True,
        "groupBy": group,
        **_charts(wide, charts),
    }
    return json.dumps(
        {"name": name, "createdAt": AT + rank, "updatedAt": AT + rank, "state": json.dumps(state)}
    )


def _by_tag(tag: str) -> dict[str, Any]:
    """Runs grouped by a tag, with the mean of each metric."""
    return {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": tag}]}


def _charts(wide: Sequence[Mapping[str, Any]], charts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Charts of a view, wide ones in a section of one column above; {} if none, as MLflow draws its own."""
    sections, own = [], []
    for uuid, name, columns, listed in (
        ("wide", "Parallel coordinates", 1, wide),
        ("study", "Study", 3, charts),
    ):
        if listed:
            sections.append(
                {"uuid": uuid, "name": name, "display": True, "isReordered": False, "columns": columns}
            )
        for place, chart in enumerate(listed):
            fixed = {"metricSectionId": uuid, "deleted": False, "isGenerated": False}
            own.append({"uuid": f"{uuid}-{place}", **fixed, **chart})
    if not own:
        return {}
    # Else MLflow orders several sections by name, and hides the first; so it adds one of all metrics below.
    return {
        "compareRunCharts": own,
        "compareRunSections": sections,
        "isAccordionReordered": len(sections) > 1,
    }


def _parallel(searched: Sequence[str]) -> list[dict[str, Any]]:
    """Charts of parallel coordinates, as wide as the page, for each parameter has an axis with its name.

    Every trial has the first metric; the plot leaves out a run without its metric.
    """
    return [
        {
            "type": "PARALLEL",
            "selectedParams": list(searched),
            "selectedMetrics": [metric],
            "showAllRuns": True,
        }
        for metric in ("best_val_dice", "dice")
    ]


def _trial_charts(searched: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"type": "BAR", "metricKey": "dice", "runsCountToCompare": 20},
        {"type": "BAR", "metricKey": "dice_on_seen_folds", "runsCountToCompare": 20},
        *(_scatter(name) for name in searched),
    ]


def _scatter(param: str) -> dict[str, Any]:
    return {
        "type": "SCATTER",
        "xaxis": {"key": param, "type": "PARAM"},
        "yaxis": {"key": "dice_on_seen_folds", "type": "METRIC"},
        "runsCountToCompare": 100,
    }


def _line(*metrics: str) -> dict[str, Any]:
    return {
        "type": "LINE",
        "metricKey": metrics[0],
        "selectedMetricKeys": [*metrics],
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "runsCountToCompare": 20,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "displayPoints": True,
    }


def _images(keys: Sequence[str]) -> dict[str, Any]:
    """Images with a slider for the epoch."""
    return {
        "type": "IMAGE",
        "imageKeys": list(keys),
        "step": 1,
        "showRunParams": False,
        "runsCountToCompare": 20,
    }


def _columns(kind: str, names: Sequence[str]) -> list[str]:
    return [_column(kind, name) for name in names]


def _column(kind: str, name: str) -> str:
    """Name of a column as MLflow's page writes it."""
    return f"{kind}.`{name}`"
