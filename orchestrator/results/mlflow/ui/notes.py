"""The descriptions of experiment and runs, in Markdown. Scores are shares from 0 to 1, as in MLflow's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.common.display import counted
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.export.exported_network import Network
from orchestrator.results.sinks.measures import CROSS_FITTED
from orchestrator.search.goals.objective import Objective
from orchestrator.search.space.keys import plain
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial

GLOSSARY = """\
| metric | what it is |
|---|---|
| `dice` | mean over all validation images, at the one threshold that is best for the trial; of finished trials |
| `dice_cross_fitted` | the same at thresholds that other folds chose |
| `dice_cross_fitted_low`, `dice_cross_fitted_high` | its 95 % interval, over whole groups (videos, patients) |
| `dice_on_seen_folds`, `folds_seen` | mean over the images of the folds that a trial was judged on, stopped or not |
| `paired_difference` | that Dice minus the Dice of trial `race_compared_with` on the same images |
| `train_loss`, `val_loss`, `val_dice` | of a fit, by epoch: the loss that is trained on both sets of images, and Dice |
| `best_val_dice` | highest validation Dice of an epoch at threshold 0.5, mean over the folds begun |
| `own_threshold_dice` | of a fold, at the threshold that is best for this fold alone |
| `test_...`, `unseen_...` | hold-out and unseen images, by the network that `outside_scores_of` names |
| `rescored_dice` | of finalists, over the images of search and re-evaluation together, at one threshold |

All scores are shares from 0 to 1. Epochs are counted from 1. Nothing that is imputed is in MLflow."""


def experiment_note(study: StudyStore, plan: SplitPlan) -> str:
    """Description of the experiment: its question, the order of its runs, the meaning of its metrics."""
    return (
        f"**Study `{study.name}`**: {_question(study, plan)}\n\n"
        "*Views*, next to the title, has the trials by Dice, the folds with their curves, and the networks that were "
        "exported. One run per trial; its folds are below it.\n\n" + GLOSSARY
    )


def study_note(study: StudyStore, plan: SplitPlan, num_trials: int, end: str | None) -> str:
    """Description of the study's run: its question, number of trials, and state."""
    how = f"It ended: {end}." if end else "It has not ended."
    return f"{_question(study, plan)}\n\n{counted(num_trials, 'trial')} so far. {how}"


def champion_note(
    trial: StudyTrial, run_link: str, metrics: Mapping[str, float], reasons: Sequence[str]
) -> str:
    """Description of a finished study: its champion, with a link to the run."""
    scores = "\n".join(f"| `{name}` | {value:.4f} |" for name, value in metrics.items() if "dice" in name)
    why = "\n".join(f"- {reason}" for reason in reasons)
    return (
        f"**Champion: [trial {trial.number}]({run_link})**, {_searched(trial.searched)}.\n\n"
        f"| score | |\n|---|---|\n{scores}\n\n{why}"
    )


def trial_note(trial: StudyTrial, metrics: Mapping[str, float], objective: Objective) -> str:
    """Description of a trial: its searched parameters and its scores."""
    head = f"**Trial {trial.number}**{' (the baseline)' if trial.number == 0 else ''}, {_searched(trial.searched)}."
    return f"{head}\n\n{_shown(trial, metrics, objective)}"


def network_note(study: str, network: Network) -> str:
    """Description of an exported network and of its training."""
    trained = "\n".join(
        f"- {one.label}: {counted(one.num_images, 'image')}, {one.num_epochs} of {one.schedule} epochs"
        for one in network.training
    )
    scores = ", ".join(
        f"`{name}` {value:.4f}" for name, value in network.metrics.items() if name.endswith("_dice")
    )
    return (
        f"**{network.name}** of study `{study}`, exported. {scores or 'Not scored outside the search.'}\n\n"
        f"Trained on:\n\n{trained}"
    )


def _shown(trial: StudyTrial, metrics: Mapping[str, float], objective: Objective) -> str:
    if trial.state == "failed":
        return f"It failed: {trial.error}"
    if trial.state == "stopped" and trial.partial is not None:
        seen = metrics.get("dice_on_seen_folds")
        on_seen = "" if seen is None else f" Dice on these: {seen:.4f} (`dice_on_seen_folds`)."
        return (
            f"Stopped by the race after {trial.partial.of_folds}: {trial.error}\n\nIt has no `dice`, which is over all "
            f"folds.{on_seen}"
        )
    value = metrics.get("objective")
    ranked = "" if objective.is_mean or value is None else f" Objective ({objective.label()}): {value:.4f}."
    return (
        f"Finished, {counted(trial.num_folds, 'fold')}: "
        f"Dice {metrics['dice']:.4f}{_limits('dice', metrics)} at threshold {metrics['threshold']:.3f}"
        f"{_cross_fitted(metrics)}.{ranked}"
    )


def _cross_fitted(metrics: Mapping[str, float]) -> str:
    """Sentence on the cross-fitted Dice; "" with a single fold, whose threshold no other fold chooses."""
    if CROSS_FITTED not in metrics:
        return ""
    limits = _limits(CROSS_FITTED, metrics)
    own = f"{metrics[CROSS_FITTED]:.4f}{limits} with each fold at the threshold of the others"
    return f", the best for all folds; {own}"


def _limits(name: str, metrics: Mapping[str, float]) -> str:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return "" if low is None or high is None else f" (95 % {low:.4f} to {high:.4f})"


def _searched(searched: Mapping[str, Any]) -> str:
    listed = (
        f"{name} `{value:.4g}`" if isinstance(value, float) else f"{name} `{value}`"
        for name, value in searched.items()
    )
    return ", ".join(listed) or "nothing searched"


def _question(study: StudyStore, plan: SplitPlan) -> str:
    space, spec = study.space(), study.spec
    unseen = f"; unseen: {', '.join(plan.unseen)}" if plan.unseen else ""
    searched = ", ".join(f"`{name}`" for name in dict.fromkeys(map(plain, space.search)))
    return (
        f"which {searched} of {', '.join(space.networks)} give the highest "
        f"{study.objective().label()} on {', '.join(plan.datasets)} ({plan.name}, {counted(len(plan.folds), 'fold')}, "
        f"{counted(len(plan.test), 'image')} held out{unseen}); race {spec.chosen_race}, seed {spec.seed}."
    )
