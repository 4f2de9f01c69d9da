"""What settings have shown, and that they are compared alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from formula import AREA, SPACE, finish, formula_study
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from orchestrator.search.race.rules import Race
from orchestrator.search.race.state import RaceState
from orchestrator.search.samplers.encoding import SpaceEncoding
from orchestrator.search.samplers.fold_aware_sampler import _num_folds, _seen
from orchestrator.search.samplers.fold_effects import over_all_folds
from orchestrator.search.samplers.past_trials import PastTrial
from orchestrator.search.space.space_file import parse_space

RATES = FloatDistribution(1e-5, 1e-1, log=True)
SWEPT = SPACE.text.replace("[fixed]", "threshold = { sweep = [0.05, 0.95] }\n[fixed]")


def separable(between: tuple[int, int]) -> np.ndarray:
    """Bins of a map that a threshold between these two makes into the right mask, and no other."""
    outside, inside = between
    bins = np.zeros((2, 256))
    bins[0, outside], bins[1, inside] = 9 * AREA, AREA
    return bins


LOW, HIGH = separable((60, 80)), separable((150, 200))


def test_one_fold_that_chose_its_own_threshold_is_not_better_for_it(tmp_path: Path):
    """Trial 0 has one threshold for its five folds, of which the first alone would have chosen another."""
    study = replace(formula_study(tmp_path, num_trials=2), space=parse_space(SWEPT))
    study.store.begin(study.space, study.plan, study.spec)
    finish(study, 1e-4, (LOW, HIGH, HIGH, HIGH, HIGH))
    finish(study, 1e-3, (LOW,))
    groups, log = study.store.group_of_case(), study.store.race_file
    standings = RaceState(study.store.ledger, study.space, study.plan, groups, "paired", log)
    for trial in study.store.optuna_study().get_trials():
        standings.enter(trial)
    assert standings.scores[0].fold_dice == pytest.approx((0, 1, 1, 1, 1))
    assert standings.scores[1].fold_dice == pytest.approx((1,))
    found = standings.race.board.compare(1, 0)
    assert found is not None and found.difference == pytest.approx(0)
    assert standings.value(1) == pytest.approx(standings.value(0))


def test_a_fold_of_many_images_weighs_more_for_samplers_than_one_of_few(tmp_path: Path):
    """Five folds of 3, 2, 2, 2 and 1 images, on which a trial has 1, 0, 0, 0 and 0: its mean over images is 0.3."""
    study = formula_study(tmp_path, num_trials=2)
    sizes = (3, 2, 2, 2, 1)
    board = Race("paired", [[f"{fold} {n}" for n in range(size)] for fold, size in enumerate(sizes)]).board
    assert board.fold_weights == pytest.approx((1.5, 1, 1, 1, 0.5))
    assert Race("paired", [["a", "b"]] * 5).board.fold_weights == ()
    params = dict(study.space.baselines[0])
    made = create_trial(state=TrialState.RUNNING, params=params, distributions={"learning_rate": RATES})
    by_fold = {0: 1.0, 1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0}
    one = PastTrial(made, 0.3, 5, by_fold=by_fold, fold_weights=board.fold_weights)
    _, values, folds, scores, weights = _seen(SpaceEncoding({"learning_rate": RATES}), [one.shown] * 2)
    assert folds.tolist() == [5, 5] and over_all_folds(values, scores, weights=weights) == pytest.approx(0.3)
    first = replace(one, by_fold={0: 1.0}).shown
    assert _num_folds([first], np.array([[1.0, *[np.nan] * 4]]), weights) == pytest.approx(1.5)
