"""The numbers of folds and trials, by the names that MLflow and the CSV files have for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from orchestrator.results.export.exported_network import fold_scores
from orchestrator.scoring.formatting import percent
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.search.goals.goals import SecondaryGoals
from orchestrator.search.goals.objective import Objective
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.store.trials import StudyTrial

Rows = Sequence[Mapping[str, float]]  # one an epoch
Interval = tuple[float, float]
CROSS_FITTED = "dice_cross_fitted"
OWN = "own_threshold_"  # prefix of the scores of a fold at the threshold that is best for this fold alone


def own_scores(record: FitRecord, masks: MaskChoice) -> dict[str, float]:
    """Scores of one fit (0 to 1) by the masks that its own cases choose, of those that its trial can have.

    Where nothing is left open these are the masks of the trial. Else the scores are a little too good, and named so:
    scores by the trial's masks are known when all its folds are.
    """
    own = masks.best(record.histograms)
    scores = fold_scores(record, own) | {"threshold": own.threshold}
    return {own_name(name): value for name, value in scores.items()} if masks.is_open else scores


def own_name(metric: str) -> str:
    """Name of a metric at the fit's own masks: own_threshold_dice, own_threshold."""
    return OWN.rstrip("_") if metric == "threshold" else f"{OWN}{metric}"


def own_threshold_text(scores: Mapping[str, float]) -> str:
    """The Dice of a fold at the threshold that is best for it alone."""
    return f"dice {percent(scores[f'{OWN}dice'])} at its own best threshold"


def trial_metrics(
    trial: StudyTrial,
    objective: Objective,
    secondary: SecondaryGoals,
    interval: Interval | None = None,
    cut: Sequence[Rows] = (),
) -> dict[str, float]:
    """Metrics of a trial: scores over all folds, or of one that lacks some over those that it has.

    `interval`: 95 % limits of its cross-fitted Dice; `cut`: the epochs of each of its fits that were cut.
    """
    if trial.state == "failed":
        return {}
    curves = [*(record.curves for record in trial.records), *cut]
    shared = _of_training(trial, curves, sum(record.seconds for record in trial.records), cut)
    if trial.state in ("stopped", "open") and (partial := trial.partial) is not None:
        return shared | partial.metrics()
    score = trial.score()
    if score is None:
        return {}
    limits = _limits(score, interval) if interval is not None else {}
    return shared | score.metrics | limits | _of_complete(trial, score, objective, secondary)


def _limits(score: TrialScore, interval: Interval) -> dict[str, float]:
    """Limits of the interval, by name: of cross-fitted Dice, or of Dice where there is one fold alone."""
    name = "dice" if score.cross_fitted is None else CROSS_FITTED
    return dict(zip((f"{name}_low", f"{name}_high"), interval, strict=True))


def _of_training(
    trial: StudyTrial, curves: Sequence[Rows], seconds: float, cut: Sequence[Rows]
) -> dict[str, float]:
    """Metrics of the training of a trial, stopped or not: best Dice, seconds, paired difference."""
    best = [max(values) for rows in curves if (values := _dice_of(rows))]
    found = {"best_val_dice": sum(best) / len(best)} if best else {}
    found["seconds"] = seconds + sum(row.get("seconds", 0.0) for rows in cut for row in rows)
    if trial.look.paired_difference is not None:
        found["paired_difference"] = trial.look.paired_difference
    return found


def _dice_of(rows: Rows) -> list[float]:
    values = (row.get("val_dice", math.nan) for row in rows)
    return [value for value in values if not math.isnan(value)]


def secondary_values(trial: StudyTrial, score: TrialScore, secondary: SecondaryGoals) -> dict[str, float]:
    """Secondary objective -> its value, of a trial with all its folds."""
    values = secondary.values(trial.configuration, score, trial.inference_ms)
    return dict(zip(secondary.names, values, strict=True))


def _of_complete(
    trial: StudyTrial, score: TrialScore, objective: Objective, secondary: SecondaryGoals
) -> dict[str, float]:
    found = {
        "threshold": score.threshold,
        "folds_seen": float(trial.num_folds),  # as of stopped trials, to compare with those
        "dice_on_seen_folds": score.metrics["dice"],
    }
    if score.cross_fitted is not None:
        found[CROSS_FITTED] = score.cross_fitted["dice"]
    if not objective.is_mean:
        found["objective"] = objective(score)
    for name, value in secondary_values(trial, score, secondary).items():
        found[f"objective_{name.replace('-', '_')}"] = value
    if score.fold_dice_std is not None:
        found["fold_dice_std"] = score.fold_dice_std
    return found
