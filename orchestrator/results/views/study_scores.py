"""Results of a study as rows and lines to show: its leaderboard, and the scores of one of its networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.results.views.score_lines import CROSS_VALIDATION, ScoreLine
from orchestrator.results.views.tables import LeaderboardRow, secondary_text
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.records.fit_records import FitRecord, scored_as
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial, broken
from orchestrator.selection.nested import nested_of
from orchestrator.selection.reevaluation import Reevaluated, reevaluation_of

OWN_THRESHOLD = "validation, at a threshold chosen on it"


def validation_line(snapshot: StudySnapshot, score: TrialScore) -> ScoreLine:
    """The trial's own score on all validation images, with its interval.

    At cross-fitted thresholds; where there are no other folds to choose them, at the trial's, and the name says so.
    """
    interval = snapshot.interval(score.dice_of_case, score.case_ids)
    num_groups = len(set(snapshot.groups_of(score.case_ids)))
    num_cases, cross_fitted = len(score.case_ids), score.cross_fitted
    if cross_fitted is None:
        return ScoreLine(OWN_THRESHOLD, num_cases, score.metrics, interval, num_groups)
    name = "validation" if len(score.fold_metrics) == 1 else CROSS_VALIDATION
    return ScoreLine(name, num_cases, cross_fitted, interval, num_groups)


def search_line(score: TrialScore) -> list[ScoreLine]:
    """The score that log, status and leaderboard show, at one threshold; none where `validation_line` is the same."""
    if score.cross_fitted is None:
        return []
    return [ScoreLine("in the search", len(score.case_ids), score.metrics)]


def means_of(standing: Sequence[tuple[StudyTrial, TrialScore]], metric: str) -> dict[int, float]:
    """Number of the trial -> mean over its validation images, of the values that trials are compared by."""
    return {trial.number: float(score.values_of_case[metric].mean()) for trial, score in standing}


def fold_lines(snapshot: StudySnapshot, trial: StudyTrial, score: TrialScore) -> list[ScoreLine]:
    """The score of each fold at the trial's threshold; none where the only fold is all there is."""
    if len(trial.records) == 1:
        return []
    return [
        ScoreLine(fold.name, len(fold.val), metrics)
        for fold, metrics in zip(snapshot.plan.folds, score.fold_metrics, strict=True)
    ]


def outside_lines(
    snapshot: StudySnapshot, records: Sequence[FitRecord], masks: PostProcess
) -> list[ScoreLine]:
    """Scores of one network, or of the mean of several, on hold-out cases and unseen datasets, where scored."""
    lines = []
    for name, scores in snapshot.outside_values(
        scored_as([record.fit_id for record in records]), masks
    ).items():
        case_ids = snapshot.outside_cases[name]
        means = {metric: float(values.mean()) for metric, values in scores.items()}
        num_groups = len(set(snapshot.groups_of(case_ids)))
        interval = snapshot.interval(scores["dice"], case_ids)
        lines.append(ScoreLine(outside_label(name), len(case_ids), means, interval, num_groups))
    return lines


def outside_label(name: str) -> str:
    """Label of a set of `outside_cases` in tables."""
    return "hold-out test" if name == "test" else f"{name} (unseen)"


def front_lines(snapshot: StudySnapshot) -> list[str]:
    """The trials that none is better than in all objectives, a line each; none where there is one objective."""
    front = snapshot.front
    if not front:
        return []
    names = (snapshot.objective.label(), *snapshot.secondary.names)
    values = snapshot.values(snapshot.ranked())
    choices = [
        f"  trial {number}: "
        + ", ".join(
            f"{name} {secondary_text(name, value)}" for name, value in zip(names, values[number], strict=True)
        )
        for number in front
    ]
    return ["No trial is better in all objectives than these (--trial takes one of them):", *choices]


def nested_lines(snapshot: StudySnapshot) -> tuple[str, ...]:
    """Sentences on the results of nested cross-validation; () where there was none."""
    nested = nested_of(snapshot.store)
    return nested.sentences() if nested is not None else ()


def board(snapshot: StudySnapshot, metric: str = "dice") -> list[LeaderboardRow]:
    """Every trial as a row of the leaderboard, by number."""
    standing = snapshot.ranked(metric)
    score_of = {trial.number: score for trial, score in standing}
    again = {one.trial: one for one in reevaluation_of(snapshot, standing, metric)}
    rows = []
    for trial in snapshot.trials:
        row, score = _row(snapshot, trial), score_of.get(trial.number)
        if score is not None:
            row = _scored(snapshot, trial, score, metric, again.get(trial.number), row)
        rows.append(row)
    return rows


def _seconds(snapshot: StudySnapshot, trial: StudyTrial) -> float:
    """Seconds of training of a trial: of its finished fits, and of those that were cut."""
    cut = sum(one.seconds for one in snapshot.cut_fits.get(trial.number, ()))
    return sum(record.seconds for record in trial.records) + cut


def _row(snapshot: StudySnapshot, trial: StudyTrial) -> LeaderboardRow:
    """A trial without its scores."""
    return LeaderboardRow(
        number=trial.number,
        state=trial.state,
        searched=trial.searched,
        folds_done=len(trial.records),
        num_folds=trial.num_folds,
        minutes=_seconds(snapshot, trial) / 60,
        error=trial.error,
        partial=snapshot.partial(trial) if trial.state == "stopped" else None,
        network=trial.configuration.network,
    )


def _scored(
    snapshot: StudySnapshot,
    trial: StudyTrial,
    score: TrialScore,
    metric: str,
    again: Reevaluated | None,
    row: LeaderboardRow,
) -> LeaderboardRow:
    """The row of a finished trial, with its scores."""
    champion, objective, secondary = snapshot.champion, snapshot.objective, snapshot.secondary
    outside: dict[str, dict[str, float]] = {}
    if champion is not None and champion.trial == trial.number:
        outside = snapshot.outside_scores(champion.fit_id, score.masks)
    others = secondary.values(trial.configuration, score, trial.inference_ms)
    is_cross_fitted = score.is_cross_fitted
    return replace(
        row,
        scores=score.metrics,
        objective=None if objective.is_mean else objective(score, metric),
        secondary=dict(zip(secondary.names, others, strict=True)),
        on_front=trial.number in snapshot.front,
        fresh=again.fresh if again is not None else None,
        both=again.both if again is not None else None,
        broken=broken(trial, secondary),
        cross_fitted=(score.cross_fitted or {}).get("dice"),
        interval=snapshot.interval(score.dice_of_case, score.case_ids) if is_cross_fitted else None,
        threshold=score.threshold,
        outside={name: means["dice"] for name, means in outside.items()},
    )
