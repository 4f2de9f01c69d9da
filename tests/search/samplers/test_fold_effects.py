"""Trials and folds in one model: what scores on some folds say of all."""

import numpy as np
import pytest
from scipy import linalg
from scipy.optimize import check_grad

from orchestrator.search.samplers.fold_effects import FoldEffects, over_all_folds
from orchestrator.search.samplers.gaussian_process import GaussianProcess, _Evidence, _prior

EASIER = np.array([0.03, 0.0, -0.02, 0.01, -0.02])


def scores_of(num_trials: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, their truth, and scores by fold: every third trial has all of them, the others the first or two."""
    rng = np.random.default_rng(seed)
    points = rng.random((num_trials, 2))
    truth = 0.7 - 0.3 * ((points - 0.4) ** 2).sum(axis=1)
    scores = truth[:, None] + EASIER + rng.normal(0, 0.01, (num_trials, 5))
    for number in range(num_trials):
        if number % 3:
            scores[number, number % 3 :] = np.nan
    return points, truth, scores


def seen(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.nanmean(scores, axis=1), np.isfinite(scores).sum(axis=1).astype(float)


def test_means_and_differences_have_the_likelihood_of_all_scores_together():
    """Up to what depends on neither variance: the numbers of folds."""
    _, _, scores = scores_of(9)
    (values, folds), effects = seen(scores), FoldEffects.of(scores)
    cells = np.argwhere(np.isfinite(scores))
    trials, on = cells.T
    directions = linalg.helmert(5)

    def apart(noise: float, spread: float) -> float:
        whole = (trials[:, None] == trials) + spread * (directions.T @ directions)[on[:, None], on]
        whole += noise * np.eye(len(cells))
        y = scores[trials, on]
        direct = y @ np.linalg.solve(whole, y) + np.linalg.slogdet(whole)[1]
        mean, variance = effects.posterior(noise, spread)
        parts = np.eye(9) + (effects.shares * variance) @ effects.shares.T + np.diag(noise / folds)
        left = values - effects.shares @ mean
        split = left @ np.linalg.solve(parts, left) + np.linalg.slogdet(parts)[1]
        return direct / 2 - split / 2 - effects.loss(noise, spread)[0]

    assert apart(1e-3, 1e-2) == pytest.approx(apart(0.3, 2.0), abs=1e-6) == pytest.approx(apart(2.0, 1e-3))


@pytest.mark.parametrize("knows_folds", [True, False])
def test_the_slopes_are_those_of_the_posterior(knows_folds):
    points, _, scores = scores_of(20)
    evidence, _, _ = _Evidence.of(points, *seen(scores), scores if knows_folds else None)
    middle, _ = _prior(2, 5 if knows_folds else 4)
    theta = middle + np.random.default_rng(1).normal(0, 0.3, len(middle))
    error = check_grad(lambda at: evidence.loss(at)[0], lambda at: evidence.loss(at)[1], theta)
    assert error < 1e-4 * np.linalg.norm(evidence.loss(theta)[1])


def test_a_trial_that_saw_easy_folds_alone_is_not_believed_better_for_it():
    points, truth, scores = scores_of(40)
    errors = [
        np.abs(GaussianProcess.fit(points, *seen(scores), known).predict(points)[0] - truth).mean()
        for known in (None, scores)
    ]
    assert errors[1] < 0.005 < 2 * errors[1] < errors[0]


def test_folds_are_believed_to_be_as_easy_as_they_are():
    points, _, scores = scores_of(40)
    model = GaussianProcess.fit(points, *seen(scores), scores)
    assert np.allclose(model.effects, EASIER - EASIER.mean(), atol=0.006)
    alone = np.array([[0.73, np.nan, np.nan, np.nan, np.nan]])
    assert model.over_all_folds(np.zeros(1), alone)[0] == pytest.approx(0.7, abs=0.006)


def test_values_without_folds_stand_beside_scores_with_them():
    by_fold = np.array([[0.5, 0.7], [np.nan, np.nan], [0.4, np.nan]])
    assert np.allclose(over_all_folds(np.array([0.0, 0.3, 0.0]), by_fold), [0.6, 0.3, 0.4])
    points = np.array([[0.1], [0.5], [0.9]])
    model = GaussianProcess.fit(points, np.array([0.0, 0.3, 0.0]), np.array([2.0, 1.0, 1.0]), by_fold)
    assert np.isfinite(model.predict(points)[0]).all()
