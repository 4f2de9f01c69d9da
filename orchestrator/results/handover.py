"""From a finished study to a model that leaves the house: bundle, card with honest numbers, registry entry."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import models
from orchestrator.data.cases import Dataset
from orchestrator.results.card import DataFacts, Making, ModelFacts, ScoreLine, SplitFacts, model_card
from orchestrator.results.export import write_bundle
from orchestrator.results.report import git_revision
from orchestrator.results.tables import LeaderboardRow
from orchestrator.scoring.metrics import scores_at
from orchestrator.scoring.statistics import cluster_interval
from orchestrator.search.folds import TrialScore
from orchestrator.search.home import StudyHome, StudyTrial, outside_cases
from orchestrator.search.ledger import FitRecord
from orchestrator.search.work import load_network


def export_trial(
    home: StudyHome, trial: StudyTrial, score: TrialScore, record: FitRecord, folder: Path
) -> Path:
    """Write the bundle of one trial, with the network of `record`: one of its folds, or its refit."""
    return write_bundle(
        folder,
        load_network(record),
        network_name=trial.settings.network,
        network_params=trial.settings.network_params,
        image_size=trial.settings.recipe.image_size,
        threshold=score.threshold,
        card=_card(home, trial, score, record),
    )


def validation_line(home: StudyHome, score: TrialScore) -> ScoreLine:
    """The trial's own score on all validation images, at cross-fitted thresholds, with its interval."""
    group_of = {case.id: case.group for dataset in home.datasets()[0] for case in dataset.cases}
    interval = cluster_interval(score.dice_of_case, [group_of[case_id] for case_id in score.case_ids])
    return ScoreLine("cross-validation", len(score.case_ids), score.cross_fitted, interval)


def outside_lines(home: StudyHome, fit_id: str, threshold: float) -> list[ScoreLine]:
    """Scores of one network on the hold-out cases and on unseen datasets, where it was scored."""
    plan = home.plan()
    sources, unseen = home.datasets()
    group_of = {case.id: case.group for dataset in (*sources, *unseen) for case in dataset.cases}
    lines = []
    for name, case_ids in outside_cases(plan, unseen).items():
        if home.ledger.has_scores(fit_id, case_ids):
            scores = scores_at(home.ledger.read_scores(fit_id, case_ids).histograms, threshold)
            interval = cluster_interval(scores["dice"], [group_of[case_id] for case_id in case_ids])
            means = {metric: float(np.mean(values)) for metric, values in scores.items()}
            label = "hold-out test" if name == "test" else f"{name} (unseen)"
            lines.append(ScoreLine(label, len(case_ids), means, interval))
    return lines


def board(home: StudyHome, metric: str = "dice") -> list[LeaderboardRow]:
    """Every trial as a row of the leaderboard."""
    group_of = {case.id: case.group for dataset in home.datasets()[0] for case in dataset.cases}
    champion = home.champion()
    rows = []
    for trial in home.trials():
        score = trial.score(metric)
        row = LeaderboardRow(
            number=trial.number,
            state=trial.state,
            searched=trial.searched,
            folds_done=len(trial.records),
            num_folds=trial.num_folds,
            minutes=sum(record.seconds for record in trial.records) / 60,
            error=trial.error,
        )
        if score is not None:
            outside = {}
            if champion is not None and champion.trial == trial.number:
                scored = home.outside_scores(champion.fit_id, score.threshold)
                outside = {name: means["dice"] for name, means in scored.items()}
            groups = [group_of[case_id] for case_id in score.case_ids]
            row = replace(
                row,
                scores=score.metrics,
                interval=cluster_interval(score.dice_of_case, groups),
                threshold=score.threshold,
                outside=outside,
            )
        rows.append(row)
    return rows


def _card(home: StudyHome, trial: StudyTrial, score: TrialScore, record: FitRecord) -> str:
    plan = home.plan()
    sources, unseen = home.datasets()
    refit = record.spec.fold == "refit"
    return model_card(
        ModelFacts(
            study=home.name,
            trial=trial.number,
            network=trial.settings.network,
            summary=models.summary(trial.settings.network),
            weights="trained again on all cases of the folds"
            if refit
            else f"fold {record.spec.fold}, of median Dice",
            params=trial.params,
            image_size=trial.settings.recipe.image_size,
            threshold=score.threshold,
            sweep=trial.settings.sweep if trial.settings.threshold is None else None,
        ),
        [*_facts(sources, "trained on"), *_facts(unseen, "never trained on")],
        SplitFacts(plan.name, plan.digest, len(plan.folds), len(plan.test), plan.groups_known),
        [
            ScoreLine(f"fold {index}", len(fold.case_ids), metrics)
            for index, (fold, metrics) in enumerate(zip(trial.records, score.fold_metrics, strict=True))
        ],
        validation_line(home, score),
        outside_lines(home, record.fit_id, score.threshold),
        Making(
            command=shlex.join(["orchestrator", *sys.argv[1:]]),
            git_revision=git_revision(),
            hardware=f"{record.world_size} x {record.device}",
            versions=record.versions,
            date=time.strftime("%Y-%m-%d"),
            num_trials=sum(other.state == "complete" for other in home.trials()),
        ),
    )


def _facts(datasets: Sequence[Dataset], role: str) -> list[DataFacts]:
    return [
        DataFacts(
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            num_cases=len(dataset.cases),
            num_groups=len({case.group for case in dataset.cases}) if dataset.groups_known else None,
            role=role,
        )
        for dataset in datasets
    ]
