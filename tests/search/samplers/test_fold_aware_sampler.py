"""The fold-aware Gaussian process behind Optuna's interface."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.trial import Trial

from orchestrator.search.samplers.fold_aware_sampler import FOLDS, FoldAwareSampler, posterior_means

optuna.logging.set_verbosity(optuna.logging.WARNING)


def value(trial: Trial) -> float:
    """Best at lr 1e-3, width 32, loss b; noisy."""
    lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    width = trial.suggest_int("width", 8, 64, step=8)
    loss = trial.suggest_categorical("loss", ["a", "b", "c"])
    lost = 0.02 * (np.log10(lr) + 3) ** 2 + 0.1 * (width / 64 - 0.5) ** 2 + 0.03 * (loss != "b")
    return float(0.8 - lost + np.random.default_rng(trial.number).normal(0, 0.003))


def study_of(num_trials: int, seed: int = 0, objective=value) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=FoldAwareSampler(seed))
    study.optimize(objective, n_trials=num_trials)
    return study


def test_it_finds_the_best_of_mixed_parameters():
    best = study_of(40).best_params
    assert best["loss"] == "b" and 10**-3.7 < best["lr"] < 10**-2.3 and 16 <= best["width"] <= 48


def test_the_same_seed_asks_the_same():
    assert [t.params for t in study_of(15).trials] == [t.params for t in study_of(15).trials]


def test_trials_in_flight_keep_apart():
    study = study_of(15)
    asked = [study.ask() for _ in range(3)]
    for trial in asked:
        value(trial)
    assert len({tuple(trial.params.values()) for trial in asked}) == 3


def test_conditional_parameters_are_drawn_when_they_apply():
    def objective(trial: Trial) -> float:
        momentum = (
            trial.suggest_float("momentum", 0, 1) if trial.suggest_categorical("sgd", [True, False]) else 0.5
        )
        return value(trial) - 0.01 * abs(momentum - 0.5)

    assert {"momentum" in t.params for t in study_of(25, objective=objective).trials} == {True, False}


def test_neighbours_speak_for_a_configuration_seen_on_one_fold():
    study = study_of(30)
    params = study.best_params
    for folds in (1, 5):
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions=study.trials[0].distributions,
                value=0.9,
                user_attrs={FOLDS: folds},
            )
        )
    found = posterior_means(study.trials[:-1]), posterior_means([*study.trials[:-2], study.trials[-1]])
    assert 0.79 < found[0][30] < found[1][31] < 0.9


def test_few_trials_are_believed_as_they_are():
    assert posterior_means(study_of(5).trials) == {}
