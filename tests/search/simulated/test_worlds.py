"""Races in worlds whose best configuration is known: errors are as rare as stated, fits are saved, studies repeat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import optuna
import pytest
from baseline_rules import BASELINE_RULES
from known_worlds import CURVES, OVER_NETWORKS, V12, WORLDS
from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from proposers import ask_optuna, ask_over_networks, ask_random, ask_surrogate, predictions

from orchestrator.search.engine import Visit
from orchestrator.search.forecast.plan import propose_nearby
from orchestrator.search.race.rules import RULES, Race, Verdict
from orchestrator.search.samplers.encoding import SpaceEncoding
from orchestrator.search.samplers.expected_gain import suggest
from orchestrator.search.samplers.gaussian_process import GaussianProcess
from orchestrator.search.samplers.registry import SAMPLERS
from orchestrator.search.simulated.study import SimulatedStudy
from orchestrator.search.simulated.worlds import World, recorded

SMALL = replace(V12, num_sequences=100)
SQUARE = SpaceEncoding({"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)})
CROSSING = replace(CURVES, num_sequences=100, rates=(0.2, 2.0))
ask_tpe = ask_optuna(lambda seed: TPESampler(seed=seed))


def study(
    world: World, rule: str, seed: int, propose=ask_random, lanes: int = 1, **options
) -> SimulatedStudy:
    instance = world.draw(seed)
    race = Race(BASELINE_RULES[rule]() if rule in BASELINE_RULES else rule, instance.groups)
    return SimulatedStudy(instance, race, propose, lanes=lanes, seed=seed, **options)


def test_a_fit_shows_the_truth_on_average():
    instance = replace(V12, num_sequences=20_000).draw(0)
    point = (0.5, 0.5, 0.5)
    means = [instance.fit(n, point, 0).mean() for n in range(30)]
    assert np.mean(means) == pytest.approx(0.7 - instance.regret(point), abs=0.004)
    assert np.std(means) == pytest.approx(0.006, rel=0.5)


@pytest.mark.slow
def test_the_stated_error_holds_where_all_configurations_are_equally_good():
    """At most 5 % of trials may be stopped; 40 studies of about 20 trials: margin of three standard errors."""
    stopped = []
    for seed in range(40):
        done = study(replace(SMALL, is_null=True, sequence_share=0.3), "paired", seed)
        done.run([40])
        verdicts = done.state.verdicts
        stopped += [n in verdicts and verdicts[n].action == "stop" for n in range(1, len(done.trials))]
    assert np.mean(stopped) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(stopped))


@pytest.mark.parametrize("fit_sd", [pytest.param(0.006, marks=pytest.mark.slow), 0.024])
def test_the_best_is_hardly_ever_stopped_however_much_fits_differ(fit_sd):
    """The race assumes 0.006. At most 5 % of 20 studies, with a margin of two standard errors."""
    stopped = []
    for seed in range(20):
        (outcome,) = study(replace(SMALL, fit_sd=fit_sd), "paired", seed, propose_nearby).run([50])
        stopped.append(outcome.best_was_stopped)
    assert np.mean(stopped) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(stopped))


def test_bad_configurations_are_stopped():
    done = study(SMALL, "paired", 0)
    done.run([60])
    verdicts, numbers = done.state.verdicts, range(1, len(done.trials))
    bad = [
        verdicts[n].action
        for n in numbers
        if n in verdicts and done.instance.regret(done.trials[n].point) > 0.2
    ]
    assert len(bad) > 5 and np.mean([action == "stop" for action in bad]) > 0.6


@pytest.mark.slow
def test_the_race_saves_fits():
    """As good on average with 45 fits and the finalists' folds as without a race at 100."""
    plain, raced = [], []
    for seed in range(6):
        plain += study(SMALL, "none", seed, ask_tpe).run([100])
        raced += study(SMALL, "paired", seed, ask_surrogate, predict=predictions).run([45])
    assert np.mean([one.fits for one in raced]) <= 60 and max(one.fits for one in raced) <= 65
    assert np.mean([one.regret for one in raced]) <= np.mean([one.regret for one in plain])


def test_a_curve_comes_to_what_the_fit_shows_and_slow_configurations_rise_later():
    instance = replace(CROSSING, epoch_sd=0.0).draw(0)
    slow, fast = (0.0, 0.5, 0.5), (1.0, 0.5, 0.5)
    for point in (slow, fast):
        curve = instance.curve(1, point, 2)
        assert curve[-1] == pytest.approx(instance.fit(1, point, 2).mean())
        assert (np.diff(curve) >= 0).all() and curve[0] < curve[-1] - 0.3
    lacking = [instance.curve(1, p, 2)[-1] - instance.curve(1, p, 2)[9] for p in (slow, fast)]
    assert lacking[0] > 0.05 > 0.01 > lacking[1]


def test_fits_are_cut_where_there_is_no_hope_and_the_best_is_not_though_curves_cross():
    saved, cut = [], []
    for seed in range(8):
        done = study(CROSSING, "paired", seed, propose_nearby)
        (outcome,) = done.run([50])
        cut.append(outcome.best_was_cut)
        saved.append(1 - outcome.epochs / outcome.fits / CROSSING.num_epochs)
        for trial in (done.trials[number] for number in done.state.cut):
            assert trial.state == "stopped" and done.instance.regret(trial.point) > 0.02
    assert not any(cut) and 0.02 < np.mean(saved) < 0.5


def test_where_most_configurations_run_out_of_memory_the_search_goes_on():
    """Four of five random ones do in this world: ten in a row would end it."""
    (world,) = (one for one in WORLDS if one.name == "memory runs out")
    done = study(replace(world, num_epochs=1), "paired", 515, ask_surrogate, predict=predictions)
    (outcome,) = done.run([30])
    failed = [trial.state == "failed" for trial in done.trials]
    assert 1 <= sum(failed) <= len(failed) / 2 and outcome.fits >= 30
    assert all(not trial.scores for trial in done.trials if trial.state == "failed")
    assert outcome.regret < done.instance.regret(done.instance.first)


def test_without_a_race_nothing_is_cut():
    (outcome,) = study(CROSSING, "none", 0, propose_nearby).run([50])
    assert outcome.epochs == outcome.fits * CROSSING.num_epochs


def test_a_configuration_that_was_cut_has_a_value_for_samplers():
    done = study(CROSSING, "paired", 1, propose_nearby)
    done.lanes.run(lambda: done.lanes.num_fits > 60)
    cut = [number for number in done.state.cut if not done.trials[number].scores]
    seen = done.state.seen(range(len(done.trials)))
    assert cut and np.isfinite(seen.values[cut]).all()
    assert seen.values[cut].max() < seen.values[done.race.incumbent]


def test_a_world_that_says_nothing_has_the_noise_of_recorded_fits():
    world, found = World("any"), recorded()
    assert world.fit_sd == found["fit"] > 0
    assert world.image_sd == pytest.approx(np.hypot(found["setting_image"], found["fit_image"]))
    assert world.rates == (found["rate"], found["rate"])
    assert len({one.name for one in WORLDS}) == len(WORLDS)


@pytest.mark.parametrize("rule", [*RULES, *BASELINE_RULES])
@pytest.mark.parametrize("lanes", [1, 4])
def test_every_rule_names_a_winner_with_all_folds(rule, lanes):
    done = study(SMALL, rule, 1, lanes=lanes)
    (outcome,) = done.run([30])
    assert outcome.fits >= 30 and outcome.regret >= 0


@pytest.mark.parametrize(
    ("rule", "number", "may_begin", "num_folds"),
    [("paired", 0, True, 5), ("paired", 1, True, 1), ("paired", 1, False, 3), ("none", 1, True, 5)],
)
def test_a_visit_fills_the_lanes_that_idle_once_no_trial_is_begun(rule, number, may_begin, num_folds):
    engine = study(SMALL, rule, 0, lanes=4).engine
    for _ in range(2):
        engine.trials.begin()
    engine.next = [number]
    if not may_begin:
        engine.gate.close("trials", "2 were begun")
    assert engine.ask() == Visit(number, tuple(range(num_folds)))


def test_a_trial_that_is_stopped_leaves_nothing_in_flight():
    lanes = study(SMALL, "paired", 0, lanes=4).lanes
    for number in (0, 1):
        lanes.engine.trials.begin()
        lanes._begin(number, 0)
    lanes.queue.extend([(1, 1), (0, 1)])
    lanes.engine.state.record_cut(1, Verdict("stop", "hopeless"))
    lanes._end(1)
    assert [one[1:3] for one in lanes.running] == [(0, 0)] and [*lanes.queue] == [(0, 1)]
    assert lanes.num_fits == 1 and lanes.engine.trials.trials[1].state == "stopped"


def test_the_same_seed_gives_the_same_study():
    first, second = (study(SMALL, "paired", 2, ask_surrogate, lanes=3, predict=predictions) for _ in range(2))
    assert first.run([20, 30]) == second.run([20, 30])
    assert [s.point for s in first.trials] == [s.point for s in second.trials]


def test_a_race_rebuilt_from_the_scores_gives_the_same_verdicts():
    """What was seen, in the order of configurations, is all that a verdict depends on."""
    done = study(SMALL, "paired", 3)
    done.run([40])
    again = Race("paired", done.instance.groups)
    for number, trial in enumerate(done.trials):
        if trial.scores:
            again.see(number, trial.scores)
    seen = [number for number, trial in enumerate(done.trials) if trial.scores]
    assert [again.judge(number) for number in seen] == [done.race.judge(number) for number in seen]
    assert [again.estimate(number) for number in seen] == [done.race.estimate(number) for number in seen]
    paused = done.engine.waiting
    assert again.recall(paused, True) == done.race.recall(paused, True)


def test_tpe_sees_configurations_in_flight(monkeypatch):
    states = []
    original = TPESampler.sample_relative

    def spy(self, study, trial, space):
        states.append([t.state for t in study.get_trials(deepcopy=False)])
        return original(self, study, trial, space)

    monkeypatch.setattr(TPESampler, "sample_relative", spy)
    study(SMALL, "paired", 0, ask_tpe, lanes=3).run([20])
    assert any(optuna.trial.TrialState.RUNNING in found for found in states)


def test_the_surrogate_finds_the_top_of_a_noisy_hill_and_weighs_folds():
    rng = np.random.default_rng(0)
    points = rng.random((40, 2))
    folds = rng.integers(1, 6, 40).astype(float)
    values = 0.8 - 0.3 * ((points - 0.4) ** 2).sum(axis=1) + rng.normal(0, 0.006, 40) / np.sqrt(folds)
    model = GaussianProcess.fit(points, values, folds)
    mean, sd = model.predict(np.array([[0.4, 0.4]]))
    assert abs(mean[0] - 0.8) < max(3 * sd[0], 0.004)
    assert np.abs(suggest(model, rng, SQUARE) - 0.4).max() < 0.2


def test_the_surrogate_moves_less_for_a_value_on_one_fold_than_on_five():
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.random((30, 2)), [[0.5, 0.5]]])
    values = np.concatenate([0.8 + rng.normal(0, 0.01, 30), [0.9]])
    posterior_means = [
        GaussianProcess.fit(points, values, np.array([1.0] * 30 + [folds])).predict(points[-1:])[0][0]
        for folds in (1.0, 5.0)
    ]
    assert posterior_means[0] < posterior_means[1]


def test_a_loss_levels_off_far_away_and_is_the_same_near_the_best():
    bowl = replace(V12, scale=(1.0, 1.0))
    found, peak = bowl.draw(1), replace(bowl, most_lost=0.3).draw(1)
    near, far = found.best + 0.01, np.where(found.best > 0.5, 0.0, 1.0)
    assert peak.regret(found.best) == 0
    assert peak.regret(near) == pytest.approx(found.regret(near), rel=0.01)
    assert found.regret(far) > 3 and 0.299 < peak.regret(far) < 0.3


def test_the_best_of_one_network_loses_nothing_and_costs_differ_twenty_fold():
    instance = OVER_NETWORKS.draw(3)
    bests = [instance._point(network, best) for network, best in enumerate(instance.bests)]
    regrets = [instance.regret(point) for point in bests]
    assert min(regrets) == 0 and sorted(regrets)[1] >= OVER_NETWORKS.worse[0]
    seconds = [instance.seconds(point) for point in bests]
    assert max(seconds) / min(seconds) == pytest.approx(20)
    assert all(np.isnan(point).sum() == 6 and len(point) == len(instance.names) for point in bests)


def test_a_study_over_networks_begins_with_their_baselines_and_keeps_to_its_seconds():
    instance = OVER_NETWORKS.draw(0)
    ask = ask_over_networks(lambda seed: SAMPLERS["surrogate"].make(seed, 1))
    study = SimulatedStudy(instance, Race("paired", instance.groups), ask, seed=0)
    (outcome,) = study.run_seconds([150])
    assert 150 <= outcome.seconds < 150 + 5 * 24 and outcome.num_configurations > 10
    again = study.run_for(150)
    assert again == outcome and tuple(one.point for one in study.trials[:4]) == instance.baselines
