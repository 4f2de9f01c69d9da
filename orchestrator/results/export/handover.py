"""From a finished study to a model that leaves the house: bundle, card with honest numbers, registry entry."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator import models
from orchestrator.common.redaction import without_secrets
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_file import SplitPlan
from orchestrator.results.export.bundle import MemberNetwork
from orchestrator.results.export.exported_network import distinct, num_trials, trained_of, training_facts
from orchestrator.results.export.model_card import (
    CROSS_VALIDATION,
    DataFacts,
    Making,
    ModelFacts,
    SplitFacts,
    card_summary,
    model_card,
)
from orchestrator.results.export.write import write_bundle
from orchestrator.results.provenance import git_revision
from orchestrator.results.views.score_lines import ScoreLine
from orchestrator.results.views.tables import LeaderboardRow, secondary_text
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.scoring.statistics import cluster_interval
from orchestrator.search.fit_jobs import load_network
from orchestrator.search.records.fit_records import FitRecord, scored_as
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.store.study_store import StudyStore, StudyTrial, broken, outside_cases, ranked
from orchestrator.selection.nested import nested_of
from orchestrator.selection.ranking import Selection
from orchestrator.selection.reevaluation import reevaluation_of

OWN_THRESHOLD = "validation, at a threshold chosen on it"


def export_trial(
    home: StudyStore,
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
        network_name=trial.configuration.network,
        network_params=trial.configuration.network_params,
        image_size=trial.configuration.recipe.image_size,
        members=_members(records),
        tta=trial.configuration.recipe.tta,
        masks=score.masks,
        trained_on=plan.datasets,
        held_out=plan.test,
        near_duplicates=tuple(sorted(plan.left_out)),
        card=trial_card(home, trial, score, records, selection, remarks),
    )


def _members(records: Sequence[FitRecord]) -> list[MemberNetwork]:
    """What each network is, where they are of several trials."""
    if num_trials(records) == 1:
        return []
    shares = Counter(record.fit_id for record in records)
    return [
        MemberNetwork(
            network=one.spec.network, network_params=one.spec.network_params, share=shares[one.fit_id]
        )
        for one in distinct(records)
    ]


def validation_line(home: StudyStore, score: TrialScore) -> ScoreLine:
    """The trial's own score on all validation images, with its interval.

    At cross-fitted thresholds; where there are no other folds to choose them, at the trial's, and the name says so.
    """
    group_of = home.group_of_case()
    groups = [group_of[case_id] for case_id in score.case_ids]
    interval, num_groups = cluster_interval(score.dice_of_case, groups), len(set(groups))
    num_cases, cross_fitted = len(score.case_ids), score.cross_fitted
    if cross_fitted is None:
        return ScoreLine(OWN_THRESHOLD, num_cases, score.metrics, interval, num_groups)
    name = "validation" if len(score.fold_metrics) == 1 else CROSS_VALIDATION
    return ScoreLine(name, num_cases, cross_fitted, interval, num_groups)


def fold_lines(home: StudyStore, trial: StudyTrial, score: TrialScore) -> list[ScoreLine]:
    """The score of each fold at the trial's threshold; none where the only fold is all there is."""
    if len(trial.records) == 1:
        return []
    return [
        ScoreLine(fold.name, len(fold.val), metrics)
        for fold, metrics in zip(home.plan().folds, score.fold_metrics, strict=True)
    ]


def outside_lines(home: StudyStore, records: Sequence[FitRecord], masks: PostProcess) -> list[ScoreLine]:
    """Scores of one network, or of the mean of several, on hold-out cases and unseen datasets, where scored."""
    group_of, outside = home.group_of_case(), outside_cases(home.plan(), home.datasets()[1])
    lines = []
    for name, scores in home.outside_values(scored_as([record.fit_id for record in records]), masks).items():
        groups = [group_of[case_id] for case_id in outside[name]]
        interval = cluster_interval(scores["dice"], groups)
        means = {metric: float(values.mean()) for metric, values in scores.items()}
        label = "hold-out test" if name == "test" else f"{name} (unseen)"
        lines.append(ScoreLine(label, len(outside[name]), means, interval, len(set(groups))))
    return lines


def front_lines(home: StudyStore) -> list[str]:
    """The trials that none is better than in all objectives, a line each; none where there is one objective."""
    front = home.front()
    if not front:
        return []
    names = (home.objective().label(), *home.secondary().names)
    values = home.values(home.ranked())
    told = [
        f"  trial {number}: "
        + ", ".join(
            f"{name} {secondary_text(name, value)}" for name, value in zip(names, values[number], strict=True)
        )
        for number in front
    ]
    return ["No trial is better in all objectives than these (--trial takes one of them):", *told]


def nested_lines(home: StudyStore) -> tuple[str, ...]:
    """What nested cross-validation has shown, a sentence each; nothing where there was none."""
    nested = nested_of(home)
    return nested.sentences() if nested is not None else ()


def board(home: StudyStore, metric: str = "dice") -> list[LeaderboardRow]:
    """Every trial as a row of the leaderboard."""
    group_of = home.group_of_case()
    champion, objective, secondary = home.champion(), home.objective(), home.secondary()
    trials, front, rows = home.trials(), home.front(), []
    standing = ranked(trials, metric, objective, secondary)
    score_of = {trial.number: score for trial, score in standing}
    again = {one.trial: one for one in reevaluation_of(home, standing)} if metric == "dice" else {}
    for trial in trials:
        score = score_of.get(trial.number)
        row = LeaderboardRow(
            number=trial.number,
            state=trial.state,
            searched=trial.searched,
            folds_done=len(trial.records),
            num_folds=trial.num_folds,
            minutes=sum(record.seconds for record in trial.records) / 60,
            error=trial.error,
            partial=trial.partial if trial.state == "stopped" else None,
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
                objective=None if objective.is_mean else objective(score, metric),
                secondary=dict(
                    zip(
                        secondary.names,
                        secondary.values(trial.configuration, score, trial.inference_ms),
                        strict=True,
                    )
                ),
                on_front=trial.number in front,
                fresh=again[trial.number].fresh if trial.number in again else None,
                both=again[trial.number].both if trial.number in again else None,
                broken=broken(trial, secondary),
                cross_fitted=(score.cross_fitted or {}).get("dice"),
                interval=cluster_interval(score.dice_of_case, groups) if score.is_cross_fitted else None,
                threshold=score.threshold,
                outside=outside,
            )
        rows.append(row)
    return rows


def trial_card(
    home: StudyStore,
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
        _model_facts(home, trial, score, records),
        [*_facts(sources, "trained on", records), *_facts(unseen, "never trained on")],
        _split_facts(plan, sources),
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


def summary(home: StudyStore, trial: StudyTrial, score: TrialScore, records: Sequence[FitRecord]) -> str:
    """What the card says in short: which network it is, and what it scored; Markdown."""
    lines = [validation_line(home, score), *outside_lines(home, records, score.masks)]
    return card_summary(_model_facts(home, trial, score, records), lines)


def _model_facts(
    home: StudyStore, trial: StudyTrial, score: TrialScore, records: Sequence[FitRecord]
) -> ModelFacts:
    plan = home.plan()
    return ModelFacts(
        study=home.name,
        trial=trial.number,
        network=trial.configuration.network,
        summary=models.summary(trial.configuration.network),
        weights=_which_weights(plan, records),
        params=trial.params,
        image_size=trial.configuration.recipe.image_size,
        masks=score.masks,
        choice=trial.configuration.masks,
        members=len(distinct(records)),
        num_trials=num_trials(records),
        tta=trial.configuration.recipe.tta,
        training=tuple(training_facts(plan, record) for record in distinct(records)),
    )


def _which_weights(plan: SplitPlan, records: Sequence[FitRecord]) -> str:
    if (several := num_trials(records)) > 1:
        is_refit = records[0].spec.fold == "refit"
        which = (
            "each trained again on all cases of the folds" if is_refit else "the networks of all their folds"
        )
        return f"those of {several} trials, {which}, averaged"
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


def _split_facts(plan: SplitPlan, sources: Sequence[Dataset]) -> SplitFacts:
    in_folds = {case_id for fold in plan.folds for case_id in (*fold.train, *fold.val)}
    return SplitFacts(
        num_cases=sum(len(dataset.cases) for dataset in sources),
        num_in_folds=len(in_folds),
        name=plan.name,
        digest=plan.digest,
        num_folds=len(plan.folds),
        num_repeats=plan.num_repeats,
        num_test=len(plan.test),
        groups_known=plan.groups_known,
        num_near_duplicates=plan.num_near_duplicates,
        num_unseen_near_duplicates=plan.num_unseen_near_duplicates,
        dropped=plan.num_dropped,
    )


def _facts(datasets: Sequence[Dataset], role: str, records: Sequence[FitRecord] = ()) -> list[DataFacts]:
    return [
        DataFacts(
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            num_cases=len(dataset.cases),
            num_groups=len({case.group for case in dataset.cases}) if dataset.groups_known else None,
            role=role,
            num_trained=trained_of(dataset.name, records),
        )
        for dataset in datasets
    ]
