"""Where one more fit is expected to gain most."""

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from orchestrator.search.samplers.encoding import SpaceEncoding
from orchestrator.search.samplers.expected_gain import by_improvement, by_knowledge, suggest
from orchestrator.search.samplers.gaussian_process import JITTER, GaussianProcess

LINE = SpaceEncoding({"x": FloatDistribution(0, 1)})


def model(noise: float = 0.005, num_points: int = 12) -> GaussianProcess:
    rng = np.random.default_rng(0)
    points = rng.random((num_points, 1))
    values = 0.8 - (points[:, 0] - 0.6) ** 2 + rng.normal(0, noise, num_points)
    return GaussianProcess.fit(points, values, np.ones(num_points))


def test_the_gain_is_how_much_the_best_expected_value_rises_once_the_fit_is_seen():
    one, asked = model(), np.array([[0.5]])
    _, sd = one.predict(asked)
    told = np.sqrt(sd[0] ** 2 + one.unit**2 * one.noise)
    both = np.concatenate([one.points, asked])
    covariance = one.covariance(both, asked)[:, 0] / told
    means = one.predict(both)[0]
    shown = np.random.default_rng(1).normal(size=200_000)
    rises = (means + np.outer(shown, covariance)).max(axis=1) - means[:-1].max()
    assert np.exp(by_knowledge(one)(asked))[0] == pytest.approx(rises.mean(), rel=0.05)


def test_what_is_known_of_two_points_together_is_what_conditioning_gives():
    one = model()
    again = one.seeing(one.points[:1])
    before, after = (o.covariance(o.points[:1], o.points[:1])[0, 0] for o in (one, again))
    noise = one.unit**2 * (one.noise + JITTER)
    assert after == pytest.approx(before - before**2 / (before + noise), rel=1e-6)
    assert before == pytest.approx(one.predict(one.points[:1])[1][0] ** 2, rel=1e-6)


def test_a_fit_that_differs_much_from_seed_to_seed_gains_less():
    point = np.array([[0.6]])
    assert by_knowledge(model(0.03))(point) < np.log(0.03) and by_improvement(model(0.03))(point) < 0
    quiet, loud = model(0.001), model(0.001)
    object.__setattr__(loud, "noise", 100 * quiet.noise)
    assert by_knowledge(loud)(point)[0] < by_knowledge(quiet)(point)[0]


def test_nothing_is_asked_again_and_the_top_of_a_hill_is_found():
    one, rng = model(), np.random.default_rng(2)
    asked = suggest(one, rng, LINE)
    assert abs(asked[0] - 0.6) < 0.2 and np.abs(one.points - asked).min() >= 0.01


def test_cost_moves_the_choice_to_where_fits_are_cheap():
    def dear_on_the_right(points: np.ndarray) -> np.ndarray:
        return np.where(points[:, 0] > 0.55, 50.0, 0.0)

    assert suggest(model(), np.random.default_rng(0), LINE, log_cost=dear_on_the_right)[0] <= 0.55
