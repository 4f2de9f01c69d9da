"""What settings have shown, and that they are compared alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from formula import AREA, SPACE, finish, formula_study

from orchestrator.search.race.state import RaceState
from orchestrator.search.space.space_file import parse_space

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
    study.home.begin(study.space, study.plan, study.spec)
    finish(study, 1e-4, (LOW, HIGH, HIGH, HIGH, HIGH))
    finish(study, 1e-3, (LOW,))
    groups, log = study.home.group_of_case(), study.home.race_file
    standings = RaceState(study.home.ledger, study.space, study.plan, groups, "paired", log)
    for trial in study.home.optuna_study().get_trials():
        standings.enter(trial)
    assert standings.scores[0].fold_dice == pytest.approx((0, 1, 1, 1, 1))
    assert standings.scores[1].fold_dice == pytest.approx((1,))
    found = standings.race.board.compare(1, 0)
    assert found is not None and found.difference == pytest.approx(0)
    assert standings.value(1) == pytest.approx(standings.value(0))
