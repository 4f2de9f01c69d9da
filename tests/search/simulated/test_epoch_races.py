"""Races over epochs, with which searches are compared: what they cost, and what they choose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from epoch_races import EpochStudy, EpochWay, with_optuna, with_promotions
from known_worlds import CURVES
from optuna.pruners import NopPruner, SuccessiveHalvingPruner
from optuna.samplers import RandomSampler
from search_ways import EPOCH_WAYS

WORLD = replace(CURVES, num_sequences=50)
EPOCHS, FOLDS = WORLD.num_epochs, WORLD.num_folds
RANDOM = with_optuna(lambda seed, _: RandomSampler(seed), lambda _: NopPruner())
HALVING = with_optuna(lambda seed, _: RandomSampler(seed), lambda _: SuccessiveHalvingPruner(3, 3))


def started(num_folds: int = FOLDS, num_finalists: int = 1) -> EpochStudy:
    study = EpochStudy(WORLD.draw(0), num_folds, num_finalists)
    study.begin(study.instance.first)
    study.begin(study.instance.best)
    return study


def test_a_configuration_that_goes_on_costs_the_epochs_it_did_not_have():
    study = started()
    study.train(0, 3)
    again = study.train(0, 3)
    assert study.spent == 3 * FOLDS and again == study.train(0, 3)
    study.train(0, 10)
    assert study.spent == 10 * FOLDS
    study.train(0, 3)
    assert study.spent == 10 * FOLDS and study.epochs == [10, 0]


def test_a_whole_fit_ends_at_the_dice_of_its_images():
    study = started()
    means = [study.instance.fit(1, study.instance.best, fold).mean() for fold in range(FOLDS)]
    assert study.train(1, EPOCHS) == pytest.approx(np.mean(means))


def test_finalists_get_what_they_lack_and_it_counts():
    study = started(num_folds=1, num_finalists=2)
    study.train(0, EPOCHS)
    study.train(1, EPOCHS)
    outcome = study.outcome()
    assert outcome.epochs == 2 * FOLDS * EPOCHS and outcome.fits == 2 * FOLDS
    assert (outcome.chosen, outcome.regret, outcome.best_was_stopped) == (1, 0.0, False)
    assert study.spent == 2 * EPOCHS, "an outcome is what would be, and changes nothing"


def test_what_was_stopped_is_not_chosen_before_what_was_trained_to_its_end():
    study = started()
    study.train(0, EPOCHS)
    study.train(1, 3)
    outcome = study.outcome()
    assert outcome.chosen == 0 and outcome.best_was_stopped and outcome.least_regret == 0


def test_pruning_tries_more_for_the_same_epochs_and_both_begin_with_the_baseline():
    found = {}
    for name, steps in {"none": RANDOM, "halving": HALVING}.items():
        study, spent = EpochStudy(WORLD.draw(1), FOLDS, 1), 20 * EPOCHS
        running = steps(study, 5)
        while study.spent < spent:
            next(running)
        assert study.points[0] == study.instance.first
        found[name] = study
    assert len(found["none"].points) == 4
    assert len(found["halving"].points) > 6
    assert min(found["halving"].epochs[:-1]) == 3 and EPOCHS in found["halving"].epochs


def test_promotion_takes_one_in_three_to_the_next_rung():
    study = EpochStudy(WORLD.draw(2), 1, 1)
    running = with_promotions(study, 0)
    for _ in range(400):
        next(running)
    epochs = np.array(study.epochs)
    assert {*study.epochs} == {3, 9, EPOCHS}
    assert (epochs >= 9).sum() == pytest.approx(len(epochs) / 3, rel=0.25)
    assert (epochs == EPOCHS).sum() == pytest.approx(len(epochs) / 9, rel=0.5)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("way", ["TPE, HyperBand, five folds", "ASHA, promoting, one fold"])
def test_a_study_repeats_and_keeps_to_its_budgets(way):
    short = replace(EPOCH_WAYS[way], budgets=(25, 10))
    first, second = (short.search(WORLD.draw(3), 7) for _ in range(2))
    assert first == second
    extra = (short.num_finalists - 1) * (FOLDS - 1)
    for outcome, budget in zip(first, (10, 25), strict=True):
        assert budget <= outcome.fits <= budget + extra + 2 * FOLDS


def test_more_budget_finds_better_configurations():
    way = EpochWay(with_promotions, FOLDS, 1, (10, 200))
    studies = [way.search(WORLD.draw(seed), seed) for seed in range(6)]
    little, much = (np.mean([study[at].regret for study in studies]) for at in (0, 1))
    assert much < little / 2
