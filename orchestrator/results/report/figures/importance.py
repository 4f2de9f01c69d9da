"""How much of the differences between trials each parameter explains (fANOVA, Hutter et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from orchestrator.results.report.facts import StudyFacts, TrialFacts
from orchestrator.results.report.figures.style import axes_of, is_number, label
from orchestrator.results.views.palette import BLUE, ORANGE

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 5  # complete trials, below which importance says nothing


def importance(study: StudyFacts) -> Figure | str:
    """Share of the variance of the score that each parameter explains."""
    shared, some = importances(study), conditional_importances(study)
    bars = {name: (share, BLUE) for name, share in shared.items()}
    bars |= {f"{name} ({count} trials)": (share, ORANGE) for name, (share, count) in some.items()}
    if not bars:
        complete = sum(trial.objective is not None for trial in study.trials)
        return (
            f"this needs {FEWEST} trials with all their folds, and a parameter that differs between them; this study "
            f"has {complete} such trials"
        )
    figure, axes = axes_of(0.7 + 0.3 * len(bars))
    names = list(bars)[::-1]
    axes.barh(
        names,
        [100 * bars[name][0] for name in names],
        color=[bars[name][1] for name in names],
        height=0.6,
    )
    axes.set_xlim(0, 100)
    label(axes, f"percent of the variance of {study.goal}", "")
    return figure


def importances(study: StudyFacts) -> dict[str, float]:
    """Parameter -> importance, largest first, over complete trials, of parameters that all of them have; empty where
    there are few trials."""
    return _explained(study, [one for one in study.trials if one.objective is not None])


def conditional_importances(study: StudyFacts) -> dict[str, tuple[float, int]]:
    """Parameter that some complete trials lack, as those of one network alone -> importance among those that have it,
    and their number; without parameters that few have."""
    complete = [one for one in study.trials if one.objective is not None]
    found = {}
    for name in study.varied:
        having = [one for one in complete if name in one.searched]
        if len(having) < len(complete) and name in (shares := _explained(study, having)):
            found[name] = (shares[name], len(having))
    return found


def without_importance(study: StudyFacts) -> list[str]:
    """Searched parameters without an importance, for too few complete trials have them in several values."""
    return sorted({*study.varied} - {*importances(study), *conditional_importances(study)})


def _explained(study: StudyFacts, trials: Sequence[TrialFacts]) -> dict[str, float]:
    """Importance of the parameters that all these trials have in several values; empty for few trials."""
    import optuna

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


def conditional_caption(study: StudyFacts) -> str:
    """Caption on parameters that some trials lack: which the figure shows, and which it leaves out."""
    some, none = conditional_importances(study), without_importance(study)
    shown = " Orange: of parameters that only some trials have, among these trials." if some else ""
    is_empty = not some and not importances(study)
    return shown + (
        f" Left out, for fewer than {FEWEST} such trials have several values of it: {', '.join(none)}."
        if none and not is_empty
        else ""
    )


def _distribution(values: list[object], *, is_log: bool) -> BaseDistribution:
    import optuna

    if all(map(is_number, values)):
        numbers = [float(value) for value in values]  # type: ignore[arg-type]
        return optuna.distributions.FloatDistribution(min(numbers), max(numbers), log=is_log)
    return optuna.distributions.CategoricalDistribution(sorted({str(value) for value in values}))


def _stored(value: object, distribution: object) -> object:
    return float(value) if hasattr(distribution, "low") else str(value)  # type: ignore[arg-type]
