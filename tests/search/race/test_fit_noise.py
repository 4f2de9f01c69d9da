"""How much fits of one setting differ, told from settings, folds, and whom earlier scores chose."""

import numpy as np
import pytest

from orchestrator.search.race.fit_noise import residual_variance

SD = 0.012  # of a fit
FOLD = np.array([0.03, -0.02, 0.0, 0.01, -0.04])


def study(rng, *, configuration_sd: float, chosen: bool) -> list[dict[int, float]]:
    """Forty settings; ten of them get all folds, the best of the first fold where they are chosen."""
    scores = 0.7 + rng.normal(0, configuration_sd, (40, 1)) + FOLD + rng.normal(0, SD, (40, 5))
    order = np.argsort(-scores[:, 0]) if chosen else rng.permutation(40)
    return [dict(enumerate(scores[n] if n in order[:10] else scores[n, :1])) for n in range(40)]


@pytest.mark.parametrize("configuration_sd", [0.005, 0.02, 0.1])
def test_the_noise_of_fits_is_found_though_only_who_was_lucky_goes_on(configuration_sd):
    rng = np.random.default_rng(0)
    found = [
        residual_variance(study(rng, configuration_sd=configuration_sd, chosen=True), SD**2, 1e-6)[0]
        for _ in range(200)
    ]
    assert np.sqrt(np.mean(found)) == pytest.approx(SD, rel=0.08)


def test_what_configurations_and_folds_add_by_themselves_is_no_noise():
    rows = [{0: 0.5, 1: 0.6, 2: 0.7}, {0: 0.4, 1: 0.5}, {1: 0.9, 2: 1.0}]
    assert residual_variance(rows, 1e-8, 3)[1] == 7 - 3 - 2
    alike = [{0: level, 1: level + 0.1, 2: level - 0.2} for level in (0.50, 0.52, 0.53, 0.55)]
    assert residual_variance(alike, SD**2, 3)[0] < SD**2 / 2


def test_where_there_is_nothing_to_learn_from_the_assumption_stands():
    for rows in (
        [],
        [{0: 0.5}],
        [{0: 0.5}, {0: 0.7}],
        [{0: 0.5, 1: 0.6, 2: 0.7}],
        [{0: 0.5, 1: 0.6}, {0: 0.4}],
    ):
        assert residual_variance(rows, 0.04, 3.0) == (0.04, 0.0)


def test_an_assumption_weighs_as_much_as_is_said():
    rows = study(np.random.default_rng(1), configuration_sd=0.1, chosen=False)
    data, _ = residual_variance(rows, SD**2, 1e-6)
    assert residual_variance(rows, 0.05**2, 1e9)[0] == pytest.approx(0.05**2)
    half = residual_variance(rows, 0.05**2, 40.0)[0]
    assert data < half < 0.05**2


def test_the_order_and_the_level_of_scores_do_not_matter():
    rows = study(np.random.default_rng(2), configuration_sd=0.02, chosen=True)
    found = residual_variance(rows, SD**2, 3.0)
    moved = [{fold: score - 0.3 for fold, score in row.items()} for row in reversed(rows)]
    assert residual_variance(moved, SD**2, 3.0) == pytest.approx(found)
