import pytest

from orchestrator.search.race.early_stopping import (
    GRACE,
    LATE,
    MIN_FINISHED,
    Curve,
    Finished,
    cut,
    expected_difference,
    lead_of,
)
from orchestrator.search.race.rules import Verdict

NUM_EPOCHS = 30
SATURATED = Curve([min(0.8, 0.08 * (epoch + 1)) for epoch in range(NUM_EPOCHS)], NUM_EPOCHS)
FINISHED = Finished([SATURATED] * MIN_FINISHED)


def flat(dice: float, num_epochs: int = 12) -> Curve:
    return Curve([dice] * num_epochs, NUM_EPOCHS)


def test_a_fit_that_stands_still_far_below_is_cut_and_the_reason_has_the_numbers():
    verdict = cut(flat(0.2), FINISHED, target=0.8, against=3)
    assert verdict is not None
    assert (verdict.action, verdict.against) == ("stop", 3)
    assert "epoch 12 of 30: best Dice 20.00; even" in verdict.reason
    assert "trial 3" in verdict.reason
    assert verdict.numbers["hope"] < 0.8


def test_nothing_is_cut_within_the_grace():
    assert cut(flat(0.0, round(GRACE * NUM_EPOCHS) - 1), FINISHED, 0.8, 0) is None
    assert cut(flat(0.0, round(GRACE * NUM_EPOCHS)), FINISHED, 0.8, 0) is not None


def test_nothing_is_cut_when_it_is_almost_done():
    assert cut(flat(0.0, round(LATE * NUM_EPOCHS)), FINISHED, 0.8, 0) is not None
    assert cut(flat(0.0, round(LATE * NUM_EPOCHS) + 1), FINISHED, 0.8, 0) is None


def test_fits_are_cut_from_a_third_to_four_fifths_of_their_epochs():
    assert (pytest.approx(1 / 3, abs=0.01), 0.8) == (GRACE, LATE)


def test_nothing_is_cut_before_gains_are_known():
    assert cut(flat(0.0), Finished(FINISHED.curves[1:]), 0.8, 0) is None


def test_a_fit_that_still_rises_goes_on():
    rising = Curve([0.02 * epoch for epoch in range(12)], NUM_EPOCHS)
    assert cut(rising, FINISHED, target=0.55, against=0) is None
    assert cut(rising, FINISHED, target=0.65, against=0) is not None


def test_where_a_fit_of_the_study_bloomed_late_another_may():
    late = Curve([0.1] * 15 + [0.75] * 15, NUM_EPOCHS)
    assert cut(flat(0.1), FINISHED, 0.8, 0) is not None
    assert cut(flat(0.1), Finished([*FINISHED.curves, late]), 0.8, 0) is None


def test_a_finished_fit_may_have_ended_early():
    short = Curve([0.5, 0.6], NUM_EPOCHS)
    assert short.best_at(1) == short.best_at(0.5) == 0.6


@pytest.mark.parametrize("dice", [0.79, 0.85])
def test_what_is_as_good_as_the_incumbent_goes_on(dice):
    assert cut(flat(dice), FINISHED, 0.8, 0) is None


def test_what_a_trial_is_ahead_on_other_folds_it_may_lose_on_this_one():
    lead = lead_of({0: 0.898, 1: 0.775}, {0: 0.8, 1: 0.8, 2: 0.8}, 2, [100, 100, 100])
    assert lead == pytest.approx(0.098 - 0.025)
    assert cut(flat(0.7), FINISHED, 0.8, 0) is not None
    assert cut(flat(0.7), FINISHED, 0.8, 0, lead) is None
    verdict = cut(flat(0.65), FINISHED, 0.8, 0, lead)
    assert verdict is not None and "less this trial's lead of 7.30 on other folds" in verdict.reason


def test_a_lead_on_few_images_is_worth_less_on_many():
    assert lead_of({0: 0.9}, {0: 0.8}, 1, [50, 200]) == pytest.approx(0.025)


def test_what_a_trial_is_behind_on_other_folds_makes_no_cut_earlier():
    assert cut(flat(0.76), FINISHED, 0.8, 0, lead=-0.2) is None


def test_a_cut_fit_is_expected_to_end_as_finished_fits_usually_did():
    finished = Finished([Curve([0.3, 0.4, 0.6 + gain], 3) for gain in (0.0, 0.02, 0.05, 0.06, 0.1)])
    assert finished.usual_gain(2 / 3) == pytest.approx(0.25)
    verdict = cut(Curve([0.0, 0.1], 3), finished, target=0.9, against=0)
    assert verdict is not None and expected_difference(verdict) == pytest.approx(0.1 + 0.25 - 0.9)


def test_a_cut_recorded_without_an_expectation_counts_as_it_stood():
    assert expected_difference(Verdict("stop", "", 0, {"best_dice": 0.1, "target": 0.5})) == pytest.approx(
        -0.4
    )
    assert expected_difference(Verdict("stop", "worse", 0, {"p_value": 0.001})) is None
