"""From a finished study to a model that leaves the house: bundle, card with honest numbers, registry entry."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import models
from orchestrator.data.cases import Dataset
from orchestrator.data.splits import SplitPlan
from orchestrator.redaction import without_secrets
from orchestrator.results.bundle import MemberNetwork
from orchestrator.results.card import DataFacts, Making, ModelFacts, ScoreLine, SplitFacts, model_card
from orchestrator.results.export import write_bundle
from orchestrator.results.report import git_revision
from orchestrator.results.selection import Selection
from orchestrator.results.tables import LeaderboardRow, beside_text
from orchestrator.scoring.pending import scores_under
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.scoring.statistics import cluster_interval
from orchestrator.search.folds import TrialScore
from orchestrator.search.home import StudyHome, StudyTrial, broken, outside_cases, ranked
from orchestrator.search.ledger import FitRecord, scored_as
from orchestrator.search.nested import nested_of
from orchestrator.search.rescore import scored_again
from orchestrator.search.work import load_network

OWN_THRESHOLD = "validation, at a threshold chosen on it"


def export_trial(
    home: StudyHome,
    trial: StudyTrial,
    score: TrialScore,
    records: Sequence[FitRecord],
    folder: Path,
    selection: Selection | None = None,
    remarks: Sequence[str] = (),
) -> Path:
    """Write the bundle of one trial, with the network of one fold, of its refit, or the mean of several.

    Networks of further trials may be among them; one that is named twice counts twice. `remarks`: on their choice.
    """
    plan = home.plan()
    return write_bundle(
        folder,
        [load_network(record) for record in distinct(records)],
        network_name=trial.settings.network,
        network_params=trial.settings.network_params,
        image_size=trial.settings.recipe.image_size,
        members=_members(records),
        tta=trial.settings.recipe.tta,
        masks=score.masks,
        trained_on=plan.datasets,
        held_out=plan.test,
        twins=tuple(sorted(plan.left_out)),
        card=trial_card(home, trial, score, records, selection, remarks),
    )


def distinct(records: Sequence[FitRecord]) -> list[FitRecord]:
    """Each network once."""
    return list({record.fit_id: record for record in records}.values())


def _members(records: Sequence[FitRecord]) -> list[MemberNetwork]:
    """What each network is, where they are of several trials."""
    if _num_trials(records) == 1:
        return []
    shares = Counter(record.fit_id for record in records)
    return [
        MemberNetwork(
            network=one.spec.network, network_params=one.spec.network_params, share=shares[one.fit_id]
        )
        for one in distinct(records)
    ]


def _num_trials(records: Sequence[FitRecord]) -> int:
    """Trials that these networks are of: as many as any fold has; folds of one trial differ in their seed."""
    fits = {record.fit_id: record.spec.fold for record in records}
    return max(Counter(fits.values()).values())


def validation_line(home: StudyHome, score: TrialScore) -> ScoreLine:
    """The trial's own score on all validation images, with its interval.

    At cross-fitted thresholds; where there are no other folds to choose them, at the trial's, and the name says so.
    """
    group_of = home.group_of_case()
    interval = cluster_interval(score.dice_of_case, [group_of[case_id] for case_id in score.case_ids])
    num_cases, cross_fitted = len(score.case_ids), score.cross_fitted
    if cross_fitted is None:
        return ScoreLine(OWN_THRESHOLD, num_cases, score.metrics, interval)
    name = "validation" if len(score.fold_metrics) == 1 else "cross-validation"
    return ScoreLine(name, num_cases, cross_fitted, interval)


def fold_lines(home: StudyHome, trial: StudyTrial, score: TrialScore) -> list[ScoreLine]:
    """The score of each fold at the trial's threshold; none where the only fold is all there is."""
    if len(trial.records) == 1:
        return []
    return [
        ScoreLine(fold.name, len(fold.val), metrics)
        for fold, metrics in zip(home.plan().folds, score.fold_metrics, strict=True)
    ]


def outside_lines(home: StudyHome, records: Sequence[FitRecord], masks: PostProcess) -> list[ScoreLine]:
    """Scores of one network, or of the mean of several, on hold-out cases and unseen datasets, where scored."""
    plan = home.plan()
    _, unseen = home.datasets()
    group_of = home.group_of_case()
    name_of_scores = scored_as([record.fit_id for record in records])
    lines = []
    for name, case_ids in outside_cases(plan, unseen).items():
        if home.ledger.has_scores(name_of_scores, case_ids):
            scores = scores_under(home.ledger.read_scores(name_of_scores, case_ids).histograms, masks)
            interval = cluster_interval(scores["dice"], [group_of[case_id] for case_id in case_ids])
            means = {metric: float(np.mean(values)) for metric, values in scores.items()}
            label = "hold-out test" if name == "test" else f"{name} (unseen)"
            lines.append(ScoreLine(label, len(case_ids), means, interval))
    return lines


def front_lines(home: StudyHome) -> list[str]:
    """The trials that none is better than in all objectives, a line each; none where there is one objective."""
    front = home.front()
    if not front:
        return []
    names = (home.objective().label(), *home.beside().names)
    values = home.values(home.ranked())
    told = [
        f"  trial {number}: "
        + ", ".join(
            f"{name} {beside_text(name, value)}" for name, value in zip(names, values[number], strict=True)
        )
        for number in front
    ]
    return ["No trial is better in all objectives than these (--trial takes one of them):", *told]


def nested_lines(home: StudyHome) -> tuple[str, ...]:
    """What nested cross-validation has shown, a sentence each; nothing where there was none."""
    nested = nested_of(home)
    return nested.sentences() if nested is not None else ()


def board(home: StudyHome, metric: str = "dice") -> list[LeaderboardRow]:
    """Every trial as a row of the leaderboard."""
    group_of = home.group_of_case()
    champion, objective, beside = home.champion(), home.objective(), home.beside()
    trials, front, rows = home.trials(), home.front(), []
    standing = ranked(trials, metric, objective, beside)
    again = {one.trial: one for one in scored_again(home, standing)} if metric == "dice" else {}
    for trial in trials:
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
                scored = home.outside_scores(champion.fit_id, score.masks)
                outside = {name: means["dice"] for name, means in scored.items()}
            groups = [group_of[case_id] for case_id in score.case_ids]
            row = replace(
                row,
                scores=score.metrics,
                objective=None if objective.name == "mean" else objective(score, metric),
                beside=dict(
                    zip(beside.names, beside.values(trial.settings, score, trial.inference_ms), strict=True)
                ),
                on_front=trial.number in front,
                fresh=again[trial.number].fresh if trial.number in again else None,
                both=again[trial.number].both if trial.number in again else None,
                broken=broken(trial, beside),
                cross_fitted=(score.cross_fitted or {}).get("dice"),
                interval=cluster_interval(score.dice_of_case, groups) if score.is_cross_fitted else None,
                threshold=score.threshold,
                outside=outside,
            )
        rows.append(row)
    return rows


def trial_card(
    home: StudyHome,
    trial: StudyTrial,
    score: TrialScore,
    records: Sequence[FitRecord],
    selection: Selection | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """The model card of one trial, with the networks of `records`; Markdown."""
    plan = home.plan()
    sources, unseen = home.datasets()
    return model_card(
        ModelFacts(
            study=home.name,
            trial=trial.number,
            network=trial.settings.network,
            summary=models.summary(trial.settings.network),
            weights=_which_weights(plan, records),
            params=trial.params,
            image_size=trial.settings.recipe.image_size,
            masks=score.masks,
            choice=trial.settings.masks,
            members=len(distinct(records)),
            num_trials=_num_trials(records),
            tta=trial.settings.recipe.tta,
        ),
        [*_facts(sources, "trained on"), *_facts(unseen, "never trained on")],
        _split_facts(plan),
        fold_lines(home, trial, score),
        validation_line(home, score),
        outside_lines(home, records, score.masks),
        Making(
            command=without_secrets(shlex.join(["orchestrator", *sys.argv[1:]])),
            git_revision=git_revision(),
            hardware=f"{records[0].world_size} x {records[0].device}",
            versions=records[0].versions,
            date=time.strftime("%Y-%m-%d"),
            num_trials=sum(bool(other.records) for other in home.trials()),
        ),
        chosen=(*(selection.sentences() if selection else ()), *remarks),
        nested=nested_lines(home),
    )


def _which_weights(plan: SplitPlan, records: Sequence[FitRecord]) -> str:
    if (num_trials := _num_trials(records)) > 1:
        is_refit = records[0].spec.fold == "refit"
        which = (
            "each trained again on all cases of the folds" if is_refit else "the networks of all their folds"
        )
        return f"those of {num_trials} trials, {which}, averaged"
    if len(records) > 1:
        return f"the networks of all {len(records)} folds, averaged"
    (record,) = records
    if record.spec.fold == "refit":
        return "trained again on all cases of the folds"
    return (
        "the one fold"
        if len(plan.folds) == 1
        else f"{plan.folds[int(record.spec.fold)].name}, of median Dice"
    )


def _split_facts(plan: SplitPlan) -> SplitFacts:
    return SplitFacts(
        name=plan.name,
        digest=plan.digest,
        num_folds=len(plan.folds),
        num_repeats=plan.num_repeats,
        num_test=len(plan.test),
        groups_known=plan.groups_known,
        num_twins=plan.num_twins,
        num_unseen_twins=plan.num_unseen_twins,
        dropped=plan.num_dropped,
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
