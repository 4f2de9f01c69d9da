"""The rules of the literature that races are compared with in benchmarks: they do what their papers say."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from baseline_rules import BASELINE_RULES, Forgiving, Median, Wilcoxon

from orchestrator.search.race.rules import RULES, Race, Rule

FOLDS, GROUPS, SIZE = 5, 40, 8
NAMES = [[f"{fold}-{group}" for group in range(GROUPS) for _ in range(SIZE)] for fold in range(FOLDS)]


def show(race: Race, number: int, *means: float) -> None:
    """Scores of the first folds, all images of a fold alike but for noise that its mean does not show."""
    rng = np.random.default_rng(number)
    noise = rng.uniform(-0.1, 0.1, GROUPS * SIZE)
    race.see(number, {fold: mean + noise - noise.mean() for fold, mean in enumerate(means)})


def race(rule: Rule) -> Race:
    """A race whose trial 0 has all folds at 0.80."""
    found = Race(rule, NAMES)
    show(found, 0, *[0.80] * FOLDS)
    return found


def test_no_baseline_is_offered_by_a_search():
    assert not BASELINE_RULES.keys() & RULES.keys()


@pytest.mark.parametrize("rule", BASELINE_RULES.values())
def test_every_verdict_is_one_sentence_and_complete_trials_go_on(rule):
    run = race(rule())
    for number in range(1, 8):
        show(run, number, *[0.78 + 0.005 * number] * (1 + number % 4))
        reason = run.judge(number).reason
        assert reason.endswith(".") and not reason[0].islower(), reason
    show(run, 8, *[0.2] * FOLDS)
    assert run.judge(8).action == "go"


def test_forgiving_stops_below_the_worst_fold():
    run = Race(Forgiving(), NAMES)
    show(run, 0, 0.70, 0.80, 0.80, 0.80, 0.80)
    show(run, 1, 0.71)
    show(run, 2, 0.69)
    assert [run.judge(n).action for n in (1, 2)] == ["go", "stop"]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_wilcoxon_decides_as_optuna_does():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rng = np.random.default_rng(0)
    actions = set()
    for _ in range(60):
        best, other = (
            0.8 + rng.normal(0, 0.01, FOLDS),
            0.79 + rng.normal(0, 0.01, int(rng.integers(2, FOLDS))),
        )
        run = Race(Wilcoxon(), NAMES)
        show(run, 0, *best)
        show(run, 1, *other)
        study = optuna.create_study(direction="maximize", pruner=optuna.pruners.WilcoxonPruner())
        first = study.ask()
        for fold, mean in enumerate(best):
            first.report(mean, fold)
        study.tell(first, float(best.mean()))
        second = study.ask()
        for fold, mean in enumerate(other):
            second.report(mean, fold)
        action = run.judge(1).action
        assert (action == "stop") == second.should_prune()
        actions.add(action)
    assert actions == {"go", "stop"}


def test_median_stops_the_lower_half_once_five_others_are_there():
    run = race(Median())
    for number in range(1, 5):
        show(run, number, 0.80 + number / 100)
        assert run.judge(number).action == "go"
    show(run, 5, 0.805)
    assert run.judge(5).action == "stop"
