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


def seen(scores: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    of_fold = np.ones(scores.shape[1]) if weights is None else weights
    folds = np.isfinite(scores) @ of_fold
    return np.nansum(scores * of_fold, axis=1) / folds, folds


LARGE_AND_SMALL = np.array([3.0, 1.0, 0.5, 0.3, 0.2])  # folds by their images


@pytest.mark.parametrize("weights", [None, LARGE_AND_SMALL])
def test_means_and_differences_have_the_likelihood_of_all_scores_together(weights):
    """Up to what depends on neither variance: the numbers of folds."""
    _, _, scores = scores_of(9)
    (values, folds), effects = seen(scores, weights), FoldEffects.of(scores, weights)
    images = np.ones(5) if weights is None else weights
    cells = np.argwhere(np.isfinite(scores))
    trials, on = cells.T
    directions = linalg.helmert(5) @ (np.eye(5) - images[:, None] / images.sum())  # less their mean

    def apart(noise: float, spread: float) -> float:
        whole = (trials[:, None] == trials) + spread * (directions.T @ directions)[on[:, None], on]
        whole += noise * np.diag(1 / images[on])
        y = scores[trials, on]
        direct = y @ np.linalg.solve(whole, y) + np.linalg.slogdet(whole)[1]
        mean, variance = effects.posterior(noise, spread)
        parts = np.eye(9) + (effects.shares * variance) @ effects.shares.T + np.diag(noise / folds)
        left = values - effects.shares @ mean
        split = left @ np.linalg.solve(parts, left) + np.linalg.slogdet(parts)[1]
        return direct / 2 - split / 2 - effects.loss(noise, spread)[0]

    assert apart(1e-3, 1e-2) == pytest.approx(apart(0.3, 2.0), abs=1e-6) == pytest.approx(apart(2.0, 1e-3))


@pytest.mark.parametrize(("knows_folds", "weights"), [(True, None), (False, None), (True, LARGE_AND_SMALL)])
def test_the_slopes_are_those_of_the_posterior(knows_folds, weights):
    points, _, scores = scores_of(20)
    evidence, _, _ = _Evidence.of(points, *seen(scores, weights), scores if knows_folds else None, weights)
    middle, _ = _prior(2, 5 if knows_folds else 4)
    theta = middle + np.random.default_rng(1).normal(0, 0.3, len(middle))
    error = check_grad(lambda at: evidence.loss(at)[0], lambda at: evidence.loss(at)[1], theta)
    assert error < 1e-4 * np.linalg.norm(evidence.loss(theta)[1])


def test_a_trial_that_saw_easy_folds_alone_is_not_expected_to_be_better_for_it():
    points, truth, scores = scores_of(40)
    errors = [
        np.abs(GaussianProcess.fit(points, *seen(scores), known).predict(points)[0] - truth).mean()
        for known in (None, scores)
    ]
    assert errors[1] < 0.005 < 2 * errors[1] < errors[0]


def test_folds_are_expected_to_be_as_easy_as_they_are():
    points, _, scores = scores_of(40)
    model = GaussianProcess.fit(points, *seen(scores), scores)
    assert np.allclose(model.effects, EASIER - EASIER.mean(), atol=0.006)
    alone = np.array([[0.73, np.nan, np.nan, np.nan, np.nan]])
    assert model.over_all_folds(np.zeros(1), alone)[0] == pytest.approx(0.7, abs=0.006)


def test_a_trial_is_worth_its_mean_over_images_however_folds_differ_in_size():
    """Left one center out: better on the 600 images of one, worse on the 60 of each of two others."""
    rng, weights = np.random.default_rng(0), np.array([600, 60, 60]) / 240
    points = rng.random((30, 1))
    scores = 0.5 + points * [0.1, -0.1, -0.1] + rng.normal(0, 0.002, (30, 3))
    truth = 0.5 + points[:, 0] * (0.1 * 600 - 0.1 * 120) / 720
    model = GaussianProcess.fit(points, *seen(scores, weights), scores, weights)
    assert np.abs(model.predict(points)[0] - truth).max() < 0.005
    assert model.over_all_folds(np.zeros(30), scores) == pytest.approx(seen(scores, weights)[0])


def test_values_without_folds_stand_beside_scores_with_them():
    by_fold = np.array([[0.5, 0.7], [np.nan, np.nan], [0.4, np.nan]])
    assert np.allclose(over_all_folds(np.array([0.0, 0.3, 0.0]), by_fold), [0.6, 0.3, 0.4])
    points = np.array([[0.1], [0.5], [0.9]])
    model = GaussianProcess.fit(points, np.array([0.0, 0.3, 0.0]), np.array([2.0, 1.0, 1.0]), by_fold)
    assert np.isfinite(model.predict(points)[0]).all()
