"""A table that says that nothing was lost says so only if nothing was."""

from __future__ import annotations

from copy import deepcopy

from chaos.comparison import Comparison, differences

CALM = {
    "leaderboard": [(0, 0.8)],
    "fits": {"a": [[0, 0.5], [1, 0.8]], "b": [[0, 0.4], [1, 0.7]]},
    "runs": [("fold", "0", "a", "", "FINISHED", [(1, 0.5)]), ("fold", "0", "b", "", "FINISHED", [(1, 0.4)])],
}
EPOCHS = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_a_study_that_is_the_same_has_lost_nothing():
    assert differences(deepcopy(CALM), CALM, EPOCHS, 0) == Comparison()


def test_a_fit_that_is_gone_and_a_run_that_is_gone_are_lost():
    found = deepcopy(CALM)
    del found["fits"]["b"], found["runs"][1]
    lost = differences(found, CALM, EPOCHS[:2], 0).lost
    assert {"fits differ", "fit b", "runs differ"} < {*lost} and any("'b'" in one for one in lost)


def test_a_number_that_differs_in_its_last_digit_is_lost():
    found = deepcopy(CALM)
    found["fits"]["b"][1][1] += 1e-9
    assert differences(found, CALM, EPOCHS, 0).lost == ("fits differ",)


def test_runs_and_fits_that_nobody_else_has_are_doubled():
    found = deepcopy(CALM)
    found["runs"].append(found["runs"][0])
    found["fits"]["c"] = []
    doubled = differences(found, CALM, EPOCHS, 0).doubled
    assert "fit c is new" in doubled and any("'a'" in one for one in doubled)


def test_more_epochs_trained_again_than_were_in_flight_are_doubled():
    assert differences(CALM, CALM, [*EPOCHS, ("b", 1)], 1) == Comparison(num_again=1)
    assert differences(CALM, CALM, [*EPOCHS, ("b", 1), ("a", 1)], 1).doubled == ("2 epochs, 1 may be",)
