"""How much of the differences between trials each parameter explains (fANOVA, Hutter et al. 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from orchestrator.results.report.facts import StudyFacts
from orchestrator.results.report.figures.style import BLUE, axes_of, is_number, label

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 5  # complete trials, below which importance says nothing


def importance(study: StudyFacts) -> Figure | str:
    """Share of the variance of the score that each parameter explains."""
    found = importances(study)
    if not found:
        complete = sum(trial.objective is not None for trial in study.trials)
        return (
            f"it takes {FEWEST} trials with all their folds, and a parameter that differs between them; of such trials "
            f"this study has {complete}"
        )
    figure, axes = axes_of(0.7 + 0.3 * len(found))
    names = list(found)[::-1]
    axes.barh(names, [100 * found[name] for name in names], color=BLUE, height=0.6)
    axes.set_xlim(0, 100)
    label(axes, f"percent of the variance of {study.goal}", "")
    return figure


def importances(study: StudyFacts) -> dict[str, float]:
    """Parameter -> importance, largest first, over complete trials, of parameters that all of them have; empty where
    there are few trials."""
    import optuna

    trials = [one for one in study.trials if one.objective is not None]
    names = [name for name in study.varied if all(name in one.searched for one in trials)]
    names = [name for name in names if len({str(one.searched[name]) for one in trials}) > 1]
    if len(trials) < FEWEST or not names:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(direction="maximize")
    space = {
        name: _distribution([one.searched[name] for one in trials], is_log=name in study.log_scaled)
        for name in names
    }
    for one in trials:
        params = {name: _stored(one.searched[name], space[name]) for name in names}
        made.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=one.objective))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(made, evaluator=evaluator))


def _distribution(values: list[object], *, is_log: bool) -> BaseDistribution:
    import optuna

    if all(map(is_number, values)):
        numbers = [float(value) for value in values]  # type: ignore[arg-type]
        return optuna.distributions.FloatDistribution(min(numbers), max(numbers), log=is_log)
    return optuna.distributions.CategoricalDistribution(sorted({str(value) for value in values}))


def _stored(value: object, distribution: object) -> object:
    return float(value) if hasattr(distribution, "low") else str(value)  # type: ignore[arg-type]
