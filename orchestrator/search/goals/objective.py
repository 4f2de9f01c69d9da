"""Objectives: what a search maximises, one number in [0, 1] of a trial's score.

Over centers each image counts with its cross-fitted score; a center is the mean over its images, in whatever fold they
were validated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from orchestrator.common.names import require_entries
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.choices import ObjectiveName
from orchestrator.search.records.trial_score import TrialScore


@dataclass(frozen=True)
class ObjectiveKind:
    """Function, and requirements on a split, of one objective: an entry of OBJECTIVES."""

    value: Callable[[Objective, TrialScore, str], float]  # of a trial's score, for a metric
    is_mean: bool = False  # over all validation images: tests that compare means say something of it
    needs_centers: bool = False
    least_folds: int = 1


@dataclass(frozen=True)
class Objective:
    """An objective on the datasets of a study."""

    name: ObjectiveName = "mean"
    center_of: Mapping[str, str] = field(default_factory=dict)  # case id -> center, where centers are needed

    @property
    def kind(self) -> ObjectiveKind:
        """Entry of this objective in OBJECTIVES."""
        return OBJECTIVES[self.name]

    @property
    def is_mean(self) -> bool:
        """Whether the objective is the mean over all validation images."""
        return self.kind.is_mean

    def __call__(self, score: TrialScore, metric: str = "dice") -> float:
        return self.kind.value(self, score, metric)

    def label(self, metric: str = "dice") -> str:
        """Heading for values of the objective: "dice", "worst-fold dice"."""
        return metric if self.is_mean else f"{self.name} {metric}"

    def by_center(self, score: TrialScore, metric: str = "dice") -> dict[str, float]:
        """Center -> mean of the metric over its validation images."""
        centers, place = np.unique([self.center_of[id] for id in score.case_ids], return_inverse=True)
        sums = np.bincount(place, weights=score.values_of_case[metric])
        return dict(zip(map(str, centers), (sums / np.bincount(place)).tolist(), strict=True))


def _worst_fold(_: Objective, score: TrialScore, metric: str) -> float:
    return min(fold[metric] for fold in score.fold_metrics)


def _center_mean(objective: Objective, score: TrialScore, metric: str) -> float:
    return float(np.mean([*objective.by_center(score, metric).values()]))


def _worst_center(objective: Objective, score: TrialScore, metric: str) -> float:
    return min(objective.by_center(score, metric).values())


OBJECTIVES: Mapping[ObjectiveName, ObjectiveKind] = {
    "mean": ObjectiveKind(lambda _, score, metric: score.metrics[metric], is_mean=True),
    "worst-fold": ObjectiveKind(_worst_fold, least_folds=2),
    "center-mean": ObjectiveKind(_center_mean, needs_centers=True),
    "worst-center": ObjectiveKind(_worst_center, needs_centers=True),
}
require_entries(OBJECTIVES, get_args(ObjectiveName), "objectives")


def objective_over(name: ObjectiveName, datasets: Sequence[Dataset]) -> Objective:
    """The objective of that name for a study on these datasets."""
    if not OBJECTIVES[name].needs_centers:
        return Objective(name)
    return Objective(
        name, {case.id: case.center for dataset in datasets for case in dataset.cases if case.center}
    )


def objective_problems(objective: Objective, plan: SplitPlan) -> list[str]:
    """Reasons why the objective cannot be computed on this split; [] if it can be."""
    least = objective.kind.least_folds
    problems = []
    if len(plan.folds) < least:
        problems.append(f"{objective.name} needs two folds or more, found one")
    return [*problems, *_center_problems(objective, plan)] if objective.kind.needs_centers else problems


def _center_problems(objective: Objective, plan: SplitPlan) -> list[str]:
    validated = {case_id for fold in plan.folds for case_id in fold.val}
    without = sorted(case_id for case_id in validated if case_id not in objective.center_of)
    centers = {objective.center_of[case_id] for case_id in validated if case_id in objective.center_of}
    problems = []
    if without:
        problems.append(
            f"{objective.name} needs the center of every image, but {len(without)} of {len(validated)} have none, such "
            f"as {without[0]}; `data add --groups` takes a column of centers"
        )
    if len(centers) < 2:
        problems.append(f"{objective.name} needs images of two centers or more, found {len(centers)}")
    return problems
