"""The registered rules on hand-made scores."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from orchestrator.search.choices import RuleName
from orchestrator.search.race.rules import RULES, Race

FOLDS, GROUPS, SIZE = 5, 40, 8
NAMES = [[f"{fold}-{group}" for group in range(GROUPS) for _ in range(SIZE)] for fold in range(FOLDS)]


def scores(mean: float, seed: int, spread: float = 0.07) -> np.ndarray:
    """Dice of one fold whose mean is exactly `mean`."""
    noise = np.random.default_rng(seed).uniform(-1, 1, GROUPS * SIZE) * min(
        1.7 * spread, 0.9 * mean, 0.9 * (1 - mean)
    )
    return mean + noise - noise.mean()


def race(rule: str = "paired", **configuration: float) -> Race:
    """A race whose setting 0 has all folds at 0.80."""
    found = Race(rule, NAMES, **configuration)
    found.see(0, {fold: scores(0.80, fold) for fold in range(FOLDS)})
    return found


def show(race: Race, number: int, *means: float) -> None:
    race.see(number, {fold: scores(mean, 100 * number + fold) for fold, mean in enumerate(means)})


def test_every_name_of_a_rule_has_a_class():
    assert get_args(RuleName) == tuple(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_the_first_configuration_and_complete_ones_go_on(rule):
    begun = Race(rule, NAMES)
    show(begun, 0, 0.5)
    assert begun.judge(0).action == "go"
    done = race(rule)
    show(done, 1, *[0.1] * FOLDS)
    assert done.judge(1).action == "go"


@pytest.mark.parametrize("rule", RULES)
def test_every_verdict_is_one_sentence(rule):
    run = race(rule)
    for number in range(1, 8):
        show(run, number, *[0.78 + 0.005 * number] * (1 + number % 4))
        reason = run.judge(number).reason
        assert reason.endswith(".") and not reason[0].islower(), reason


def test_two_configurations_are_compared_by_masks_that_the_folds_they_share_have_chosen():
    found = Race("paired", NAMES)
    found.see(
        0,
        {fold: scores(0.70, fold) for fold in range(FOLDS)},  # by masks that are one for all folds
        lambda folds: {fold: scores(0.80, fold) for fold in folds},
    )
    show(found, 1, 0.80)
    assert found.estimate(1) == pytest.approx(found.estimate(0)) == pytest.approx(0.70)
    assert found.judge(1).numbers["difference"] == pytest.approx(0)


def test_a_configuration_far_below_is_stopped_after_one_fold_and_says_against_whom():
    run = race()
    show(run, 1, 0.70)
    verdict = run.judge(1)
    assert (verdict.action, verdict.against) == ("stop", 0)
    assert verdict.numbers["difference"] == pytest.approx(-0.10)
    assert verdict.numbers["p_value"] < 0.0125
    assert "-10.00 ± " in verdict.reason and "trial 0" in verdict.reason


def test_nothing_is_stopped_before_the_stated_minimum():
    run = race(least_folds=3)
    show(run, 1, 0.60, 0.60)
    assert run.judge(1).action == "pause"
    show(run, 1, 0.60, 0.60, 0.60)
    assert run.judge(1).action == "stop"


def test_a_little_below_waits_and_a_clear_gain_goes_on():
    run = race()
    for number in range(1, 7):
        show(run, number, 0.78)
        assert run.judge(number).action == "pause"
    show(run, 7, 0.82)
    assert run.judge(7).action == "go"


def test_a_waiting_configuration_is_taken_up_again_when_a_place_opens():
    """One setting in four may have a second fold; setting 0 has one of these places."""
    run = race(reduction=4)
    show(run, 1, 0.815)
    assert run.judge(1).action == "pause"
    for number in range(2, 8):
        assert run.recall([1], new_wanted=True) is None
        show(run, number, 0.70)
    assert run.recall([1], new_wanted=True) == 1


def test_after_its_second_fold_the_chance_of_a_gain_alone_decides():
    run = race()
    show(run, 1, 0.82, 0.82)
    assert run.judge(1).action == "go"
    show(run, 1, 0.80, 0.78)
    assert run.judge(1).action == "pause"


def test_the_stated_error_is_shared_by_all_that_the_incumbent_was_chosen_from():
    run = race(error_rate=0.05)
    show(run, 1, 0.79)
    assert run.judge(1).numbers["limit"] == pytest.approx(0.05 / 4)
    show(run, 2, *[0.80] * FOLDS)
    assert run.judge(1).numbers["limit"] == pytest.approx(0.05 / 8)


def test_ranks_and_the_incumbent_follow_what_a_model_expects():
    run = race(finalists=1)
    show(run, 1, *[0.81] * FOLDS)
    assert run.incumbent == 1
    run.predict({0: 0.82, 1: 0.79})
    assert run.incumbent == 0
    run.predict({1: 0.83}, replace_all=False)
    assert run.incumbent == 1
    show(run, 2, 0.75)
    run.predict({0: 0.8, 1: 0.8, 2: 0.9})
    assert run.recall([2], new_wanted=False) == 2


def test_finalists_are_the_best_and_get_all_folds():
    run = race(finalists=2)
    for number, mean in enumerate([0.79, 0.83, 0.81, 0.82], start=1):
        show(run, number, mean)
    assert run.recall([1, 2, 3, 4], new_wanted=False) == 2
    show(run, 2, *[0.83] * FOLDS)
    assert run.recall([1, 3, 4], new_wanted=False) == 4
    show(run, 4, *[0.82] * FOLDS)
    assert run.recall([1, 3], new_wanted=False) is None


def test_the_incumbent_is_the_best_with_all_folds():
    run = race()
    show(run, 1, 0.99)
    assert run.incumbent == 0
    show(run, 2, *[0.81] * FOLDS)
    assert run.incumbent == 2


def test_the_estimate_is_the_incumbents_mean_plus_the_paired_difference():
    run = Race("paired", NAMES)
    show(run, 0, 0.60, 0.80, 0.80, 0.80, 0.80)  # fold 0 is hard
    show(run, 1, 0.61)
    assert run.estimate(1) == pytest.approx(0.76 + 0.01)
    assert run.estimate(0) == pytest.approx(0.76)


def test_the_error_of_a_difference_holds_groups_and_fits():
    """By hand: two groups of two images differ by 0.02 and 0.04; fits add 2 * 0.006^2."""
    run = Race("paired", [["a", "a", "b", "b"]] * 2, fit_noise_weight=1e9)
    run.see(0, {0: [0.5] * 4, 1: [0.5] * 4})
    run.see(1, {0: [0.52, 0.52, 0.54, 0.54]})
    of_images = 2 * (2 * 0.01) ** 2 / 4**2 * 2 / (2 - 1)
    assert run.judge(1).numbers["standard_error"] == pytest.approx(np.sqrt(of_images + 2 * 0.006**2))


def test_a_fold_of_one_video_says_little_alone_and_counts_as_the_least_sure_one_beside_others():
    """How much worse a setting is on one video does not show what it is on others."""
    groups = [["video"] * 60, [f"image {image}" for image in range(60)]]
    found = Race("paired", groups, fit_noise=0.001, fit_noise_weight=1e6)
    values = np.random.default_rng(0).uniform(0.5, 0.7, (2, 60))
    found.see(0, dict(enumerate(values)))
    found.see(1, {0: values[0] - 0.3})
    found.see(2, {1: values[1] - 0.3})
    found.see(3, dict(enumerate(values - np.linspace(0.2, 0.4, 60))))
    alone, both = (found.board.compare(number, 0) for number in (1, 3))
    assert alone is not None and alone.standard_error == pytest.approx(1, abs=0.001)
    assert found.judge(1).action != "stop" and found.judge(2).action == "stop"
    assert both is not None
    alike = np.std(np.linspace(0.2, 0.4, 60)) / np.sqrt(59)
    assert both.standard_error == pytest.approx(alike / np.sqrt(2), rel=0.05)


def test_degrees_of_freedom_are_those_of_the_folds_that_the_error_comes_from():
    groups = [[str(number // 100) for number in range(300)], [str(number) for number in range(300)]]
    found = Race("paired", groups, fit_noise=1e-6, fit_noise_weight=1e9)
    rng = np.random.default_rng(0)
    values = rng.uniform(0.4, 0.6, (2, 300))
    found.see(0, dict(enumerate(values)))
    found.see(1, {0: values[0] + np.repeat([0.1, -0.1, 0.05], 100), 1: values[1] + rng.normal(0, 0.02, 300)})
    assert found.board.compare(1, 0).degrees == pytest.approx(2, rel=0.05)


def test_images_of_a_group_count_for_less_than_images_alone():
    def error(groups):
        run = Race("paired", [groups] * 2)
        run.see(0, {0: np.full(320, 0.5), 1: np.full(320, 0.5)})
        run.see(1, {0: 0.5 + np.repeat(np.random.default_rng(0).normal(0, 0.05, 40), 8)})
        return run.judge(1).numbers["standard_error"]

    assert error([str(i // 8) for i in range(320)]) > 1.2 * error([str(i) for i in range(320)])


def test_fit_noise_is_learned_from_what_the_study_shows():
    calm, wild = race(), race()
    for number in range(1, 8):
        show(calm, number, *[0.80] * 4)
        show(wild, number, *(0.80 + 0.09 * np.sign(np.sin([number, 2 * number, 3 * number, 5 * number]))))
    assert calm.board.fit_noise()[0] < 0.006 < 0.05 < wild.board.fit_noise()[0]


def noisy_scores(rng, fit_sd: float, level: float) -> np.ndarray:
    """Fold 0 is easy, images of a group belong together, and every fit is a little better or worse."""
    groups = np.repeat(rng.normal(0, 0.04, GROUPS), SIZE)
    return np.clip(level + rng.normal(0, fit_sd) + groups + rng.normal(0, 0.07, GROUPS * SIZE), 0, 1)


@pytest.mark.parametrize("fit_sd", [0.004, 0.012, 0.03])
def test_the_noise_of_fits_is_told_from_that_of_images_whatever_was_assumed(fit_sd):
    rng, found = np.random.default_rng(0), []
    for _ in range(30):
        run = Race("paired", NAMES)
        for number in range(12):
            run.see(
                number,
                {
                    fold: noisy_scores(rng, fit_sd, 0.6 if fold == 0 else 0.5)
                    for fold in range(2 + number % 4)
                },
            )
        found.append(run.board.fit_noise()[0])
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(fit_sd, rel=0.25)


def test_what_masks_chosen_by_few_folds_gain_is_no_noise():
    def learned(optimism: float) -> float:
        run, rng = Race("paired", NAMES), np.random.default_rng(0)
        for number in range(12):
            scores = {
                f: np.clip(noisy_scores(rng, 0.012, 0.5), 0, 0.9) for f in range(5 if number % 3 == 0 else 1)
            }

            def chosen_by(folds, scores=scores):
                return {f: scores[f] + optimism * (len(folds) < FOLDS) for f in folds}

            run.see(number, chosen_by(list(scores)), chosen_by)
        return run.board.fit_noise()[0]

    assert learned(0.04) == pytest.approx(learned(0.0))


def test_before_the_study_shows_its_noise_less_is_stopped():
    run = race()
    show(run, 1, 0.772)
    assert run.judge(1).action == "pause"
    for number in range(2, 8):
        show(run, number, *[0.80] * FOLDS)
    assert run.judge(1).action == "stop"


def test_asha_promotes_the_best_third_and_recalls_when_places_open():
    run = race("asha", reduction=3)
    show(run, 1, 0.85)
    assert run.judge(1).action == "pause"
    for number in range(2, 6):
        assert run.recall([1], new_wanted=True) is None
        show(run, number, 0.79)
    assert run.recall([1, 2], new_wanted=True) == 1


def test_without_a_rule_everybody_gets_all_folds():
    run = race("none")
    show(run, 1, 0.01)
    assert run.judge(1).action == "go"
    assert run.recall([1], new_wanted=True) == 1


def test_before_anyone_is_complete_others_wait_for_the_first():
    run = Race("paired", NAMES)
    show(run, 1, 0.9)
    show(run, 0, 0.8)
    assert run.incumbent == 0
    assert run.judge(1).action == "pause"
    assert run.recall([0, 1], new_wanted=True) == 0


@pytest.mark.parametrize("rule", RULES)
def test_where_the_first_configuration_failed_another_gets_all_folds(rule):
    run = Race(rule, NAMES)
    show(run, 3, 0.7)
    show(run, 4, 0.8, 0.8)
    assert run.incumbent == 4
    assert run.judge(4).action == "go"
    assert run.recall([3, 4], new_wanted=False) == 4


def test_scores_that_do_not_fit_are_refused_with_every_problem():
    with pytest.raises(
        ValueError, match=r"fold 7 is none of 0 to 4; fold 1 has 320 images, found shape \(3,\)"
    ):
        race().see(1, {7: np.zeros(320), 1: np.zeros(3)})
    with pytest.raises(ValueError, match="outside"):
        race().see(1, {0: np.full(320, np.nan)})
    with pytest.raises(ValueError, match="no rule is named"):
        Race("guess", NAMES)


def test_the_order_of_calls_alone_decides():
    def verdicts():
        run, rng = race(), np.random.default_rng(3)
        found = []
        for number in range(1, 20):
            show(run, number, *(0.8 + rng.normal(0, 0.02, 1 + number % 4)))
            found.append(run.judge(number))
        return found

    assert verdicts() == verdicts()
