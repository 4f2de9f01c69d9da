"""The fold-aware Gaussian process behind Optuna's interface."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.trial import Trial

from orchestrator.search.samplers.fold_aware_sampler import (
    FOLDS,
    SECONDS,
    TIME_LEFT,
    FoldAwareSampler,
    PosteriorMeans,
    _log_cost,
    encoding,
    space_of,
)

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
    first, second = (PosteriorMeans([*study.trials[:-2], one]).all()[-1] for one in study.trials[-2:])
    assert 0.79 < first < second < 0.9


def test_of_few_trials_nothing_is_predicted():
    assert PosteriorMeans(study_of(5).trials).all() == []


COSTS = {"small": 1.0, "middle": 4.0, "large": 20.0}


def over_networks(trial: Trial) -> float:
    """Best with the middle network at its own width of 32; a rate that all networks share is best at 1e-3."""
    network = trial.suggest_categorical("network", [*COSTS])
    lost = 0.02 * (np.log10(trial.suggest_float("lr", 1e-5, 1e-1, log=True)) + 3) ** 2
    if network == "small":
        lost += 0.02 + 0.1 * (trial.suggest_float("small.dropout", 0, 1) - 0.2) ** 2
    if network == "middle":
        lost += 0.1 * (trial.suggest_int("middle.width", 8, 64, step=8) / 64 - 0.5) ** 2
    if network == "large":
        lost += 0.05
    trial.set_user_attr(SECONDS, COSTS[network])
    return float(0.8 - lost + np.random.default_rng(trial.number).normal(0, 0.003))


def test_parameters_of_one_network_are_modelled_like_those_of_all():
    study = study_of(40, objective=over_networks)
    assert study.best_params["network"] == "middle" and 16 <= study.best_params["middle.width"] <= 48
    late = [trial.params for trial in study.trials[20:]]
    widths = [params["middle.width"] for params in late if params["network"] == "middle"]
    assert len(widths) > 10 and np.mean([16 <= width <= 48 for width in widths]) > 0.7


def test_in_the_beginning_networks_are_tried_equally_often():
    tried = [trial.params["network"] for trial in study_of(6, objective=over_networks).trials]
    assert [tried.count(network) for network in COSTS] == [2, 2, 2]


def test_where_hours_count_cheap_networks_are_tried_more_often_at_first():
    study = optuna.create_study(direction="maximize", sampler=FoldAwareSampler(0))
    study.set_user_attr(TIME_LEFT, 1.0)
    study.optimize(over_networks, n_trials=12)
    tried = [trial.params["network"] for trial in study.trials]
    assert tried.count("small") > tried.count("large") and tried.count("large") <= 2


def test_cost_divides_the_gain_by_as_much_as_time_is_left():
    trials = study_of(20, objective=over_networks).trials
    box = encoding(space_of(trials)[0], trials)
    points = np.array([box.point({"network": network}) for network in COSTS])
    assert _log_cost(box, trials, 0.0) is None and _log_cost(box, trials, None) is None
    whole, half = (_log_cost(box, trials, left)(points) for left in (1.0, 0.5))
    assert np.allclose(whole, np.log([*COSTS.values()]), atol=0.3) and np.allclose(half, whole / 2)


def test_a_configuration_of_a_network_comes_back_with_the_parameters_of_that_network():
    trials = study_of(12, objective=over_networks).trials
    box = encoding(space_of(trials)[0], trials)
    points = box.points([trial.params for trial in trials])
    assert np.allclose(box.snap(points), points)
    for trial, point in zip(trials, points, strict=True):
        assert box.params(point).keys() == trial.params.keys()
    elsewhere = box.snap(box.lengths * np.random.default_rng(0).random((50, len(box.lengths))))
    assert all(np.allclose(box.point(box.params(one)), one) for one in elsewhere)
