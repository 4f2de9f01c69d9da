"""What a search makes as large as it can: one number out of a trial's score.

Over centers each image counts with its cross-fitted score; a center is a mean over its images, however many folds they
were validated in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_file import SplitPlan
from orchestrator.search.choices import ObjectiveName
from orchestrator.search.records.trial_score import TrialScore


@dataclass(frozen=True)
class Objective:
    """A function of a trial's score, in [0, 1]; the larger the better."""

    name: ObjectiveName = "mean"
    center_of: Mapping[str, str] = field(
        default_factory=dict
    )  # case id -> center; needed by those over centers

    def __call__(self, score: TrialScore, metric: str = "dice") -> float:
        match self.name:
            case "mean":
                return score.metrics[metric]
            case "worst-fold":
                return min(fold[metric] for fold in score.fold_metrics)
            case "center-mean":
                return float(np.mean([*self.by_center(score, metric).values()]))
            case "worst-center":
                return min(self.by_center(score, metric).values())

    def label(self, metric: str = "dice") -> str:
        """What it is called beside a number: "dice", "worst-fold dice"."""
        return metric if self.name == "mean" else f"{self.name} {metric}"

    def by_center(self, score: TrialScore, metric: str = "dice") -> dict[str, float]:
        """Mean of each center's validation images."""
        centers, place = np.unique([self.center_of[id] for id in score.case_ids], return_inverse=True)
        sums = np.bincount(place, weights=score.values_of_case[metric])
        return dict(zip(map(str, centers), (sums / np.bincount(place)).tolist(), strict=True))


def objective_over(name: ObjectiveName, datasets: Sequence[Dataset]) -> Objective:
    """The objective of that name for a study on these datasets."""
    if name in ("mean", "worst-fold"):
        return Objective(name)
    return Objective(
        name, {case.id: case.center for dataset in datasets for case in dataset.cases if case.center}
    )


def objective_problems(objective: Objective, plan: SplitPlan) -> list[str]:
    """Why it cannot be had on this split, if it cannot."""
    if objective.name == "mean":
        return []
    if objective.name == "worst-fold":
        return [] if len(plan.folds) > 1 else ["worst-fold needs two folds or more, found one"]
    validated = {case_id for fold in plan.folds for case_id in fold.val}
    without = sorted(case_id for case_id in validated if case_id not in objective.center_of)
    centers = {objective.center_of[case_id] for case_id in validated if case_id in objective.center_of}
    problems = []
    if without:
        problems.append(
            f"{objective.name} needs the center of every image, {len(without)} of {len(validated)} have none, "
            f"such as {without[0]}; `data add --groups` takes a column of centers"
        )
    if len(centers) < 2:
        problems.append(f"{objective.name} needs images of two centers or more, found {len(centers)}")
    return problems
