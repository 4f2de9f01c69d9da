from dataclasses import replace

import pytest
import torch
from formula import formula_study

from orchestrator.search.forecast import speed as speed_module
from orchestrator.search.forecast.plan import (
    START_S,
    forecast,
    some_configurations,
    widths_of,
    world_of,
)
from orchestrator.search.forecast.speed import Held, Speed, measure
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.simulated.worlds import World

WORLD = World("small", num_sequences=40, sequence_length=4)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return formula_study(tmp_path_factory.mktemp("home"), num_trials=1)


def test_a_fit_takes_its_epochs_and_its_scoring(study):
    configuration = some_configurations(study.space, 0, 0)[0]
    spec = fold_specs(configuration, study.plan)[0]
    speed = Speed({2: 10.0, 1: 5.0}, validation=20.0, gradient_bytes=0)
    steps, epochs = len(spec.train) // 2, spec.recipe.epochs
    scoring = len(spec.val) / 20
    assert speed.fit_seconds(spec, 1) == pytest.approx(epochs * (steps * 2 / 10 + scoring) + scoring)
    # Two workers, each with half the batch at half the rate: no gain in training, half the scoring.
    wide = epochs * (steps * 1 / 5 + scoring / 2) + scoring / 2
    assert speed.fit_seconds(spec, 2) == pytest.approx(wide)
    heavy = Speed({2: 10.0, 1: 5.0}, validation=20.0, gradient_bytes=10**9)
    assert heavy.fit_seconds(spec, 2) > speed.fit_seconds(spec, 2)
    assert heavy.fit_seconds(spec, 1) == speed.fit_seconds(spec, 1)


@pytest.mark.parametrize("kind", ["swa", "ema"])
def test_averaged_weights_cost_a_pass_over_the_training_images_after_each_epoch_that_counts(study, kind):
    spec = fold_specs(some_configurations(study.space, 0, 0)[0], study.plan)[0]
    update = {"weight_averaging": kind, "averaging_start": 0.75, "epochs": 10}
    spec = spec.model_copy(update={"recipe": spec.recipe.model_copy(update=update)})
    plain = spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"weight_averaging": "none"})})
    speed = Speed({2: 10.0, 1: 5.0}, validation=20.0, gradient_bytes=0)
    passes = 3 * (len(spec.train) // 2 * 2) / 20
    for width in (1, 2):
        more = speed.fit_seconds(spec, width) - speed.fit_seconds(plain, width)
        assert more == pytest.approx(passes / width)


def test_an_epoch_is_timed_without_the_pass_that_averaged_weights_need(study, monkeypatch):
    timed = []

    def run_fit(spec, cases, folder, *, report, **options):
        timed.append(spec.recipe.weight_averaging)
        for epoch in range(2):
            report({"epoch": epoch, "images_per_second": 10.0, "seconds": 2.0})

    monkeypatch.setattr(speed_module, "run_fit", run_fit)
    configuration = some_configurations(study.space, 0, 0)[0]
    recipe = configuration.recipe.model_copy(update={"weight_averaging": "swa"})
    measure(replace(configuration, recipe=recipe), study.plan, None, torch.device("cpu"), [1])
    assert timed == ["none"]


def test_what_a_plan_times_on_a_few_images_needs_no_images_of_two_classes(study, monkeypatch):
    timed = []

    def run_fit(spec, cases, folder, *, report, **options):
        timed.append(spec.recipe.sampling)
        for epoch in range(2):
            report({"epoch": epoch, "images_per_second": 10.0, "seconds": 2.0})

    monkeypatch.setattr(speed_module, "run_fit", run_fit)
    configuration = some_configurations(study.space, 0, 0)[0]
    recipe = configuration.recipe.model_copy(update={"sampling": "presence"})
    measure(replace(configuration, recipe=recipe), study.plan, None, torch.device("cpu"), [1])
    assert timed == ["cases"]


def test_epochs_that_hold_the_encoder_still_cost_what_was_timed_of_such(study):
    spec = fold_specs(some_configurations(study.space, 0, 0)[0], study.plan)[0]
    update = {"freeze_epochs": 6, "epochs": 10}
    spec = spec.model_copy(update={"recipe": spec.recipe.model_copy(update=update)})
    whole = Speed({2: 10.0}, validation=20.0, gradient_bytes=0)
    step, steps = 2 / 10, len(spec.train) // 2
    saved = whole.fit_seconds(spec, 1) - replace(whole, held=Held(4.0, 0)).fit_seconds(spec, 1)
    assert saved == pytest.approx(6 * steps * step * (1 - 1 / 4))


def test_an_encoder_that_is_held_still_is_timed_so(study, monkeypatch):
    timed = []

    def run_fit(spec, cases, folder, *, report, **options):
        timed.append((spec.recipe.epochs, spec.recipe.freeze_epochs))
        for epoch in range(2):
            rate = 30.0 if spec.recipe.freeze_epochs > epoch else 10.0
            report({"epoch": epoch, "images_per_second": rate, "seconds": 2.0})

    monkeypatch.setattr(speed_module, "run_fit", run_fit)
    configuration = some_configurations(study.space, 0, 0)[0]
    recipe = configuration.recipe.model_copy(update={"freeze_epochs": 1})
    pranet = replace(configuration, network="pranet", network_params={"pretrained": False}, recipe=recipe)
    speed = measure(pranet, study.plan, None, torch.device("cpu"), [2])
    assert timed == [(2, 0), (3, 2)] and speed.held.speedup == 3.0
    assert 0 < speed.held.gradient_bytes < speed.gradient_bytes


def test_shares_that_were_not_measured_follow_those_of_another_configuration():
    known = Speed({1: 5.0, 2: 8.0, 4: 10.0}, 1.0, 0)
    other = Speed({4: 20.0}, 2.0, 0).like(known)
    assert other.training == {1: 10.0, 2: 16.0, 4: 20.0}


def test_without_a_race_the_fits_are_trials_times_folds_and_lanes_share_them():
    one = forecast([60.0], width=1, num_lanes=1, num_trials=4, race="none", world=WORLD, repetitions=2)
    assert one.fits == 20
    assert one.hours * 3600 == pytest.approx(START_S + 20 * 60)
    four = forecast([60.0], width=1, num_lanes=4, num_trials=4, race="none", world=WORLD, repetitions=2)
    assert four.hours * 3600 == pytest.approx(START_S + 5 * 60)
    assert four.gpu_hours == pytest.approx(one.gpu_hours) == pytest.approx(20 / 60)


def test_folds_of_one_configuration_are_trained_side_by_side_where_lanes_are_idle():
    kind = {"width": 1, "num_trials": 1, "race": "paired", "world": WORLD, "repetitions": 1}
    assert forecast([60.0], num_lanes=5, **kind).hours * 3600 == pytest.approx(START_S + 60)
    kind |= {"num_trials": 4, "race": "none"}
    assert forecast([60.0], num_lanes=16, **kind).hours * 3600 == pytest.approx(START_S + 2 * 60)


def test_a_race_is_forecast_to_save_fits_and_failures_to_cost_time():
    kind = {"width": 1, "num_lanes": 2, "num_trials": 12, "world": WORLD, "repetitions": 3}
    raced = forecast([60.0], race="paired", **kind)
    assert raced.fits < 60 / 1.5
    failing = forecast([60.0], race="paired", failures_per_hour=30.0, **kind)
    assert failing.gpu_hours > raced.gpu_hours


def test_finalists_are_re_evaluated_where_they_do_not_differ_significantly():
    kind = {"width": 1, "num_lanes": 5, "num_trials": 4, "race": "none", "repetitions": 1}
    alike = replace(WORLD, is_null=True)
    once, again = (forecast([60.0], world=alike, rescore=most, **kind) for most in (1, 3))
    assert (once.fits, again.fits) == (20, 35)
    assert once.hours * 3600 == pytest.approx(START_S + 4 * 60)
    assert again.hours * 3600 == pytest.approx(START_S + (4 + 3) * 60)
    apart = replace(WORLD, fit_sd=1e-6, image_sd=1e-6, fold_configuration_sd=0.0)
    assert forecast([60.0], world=apart, rescore=3, **kind).fits == 20


def test_a_nested_search_is_one_more_study_for_each_outer_fold_on_fewer_cases():
    kind = {"width": 1, "num_lanes": 1, "num_trials": 4, "race": "none", "repetitions": 2, "world": WORLD}
    one = forecast([60.0], nested=3, **kind)
    assert one.fits == 4 * 20
    assert one.hours * 3600 == pytest.approx(4 * START_S + 20 * 60 + 3 * 20 * 40)


def test_widths_divide_every_batch_size():
    assert widths_of((8, 12), 16) == [1, 2, 4]
    assert widths_of((16,), 4) == [1, 2, 4]


def test_the_world_has_the_size_of_the_split(study):
    world = world_of(study.plan, 1)
    images = sum(len(fold.val) for fold in study.plan.folds)
    assert world.num_folds == 5
    assert abs(world.num_sequences * world.sequence_length - images) <= world.num_sequences


def test_the_papers_configuration_is_timed_first(study):
    first, *others = some_configurations(study.space, 2, 0)
    assert first.recipe.learning_rate == 1e-4
    assert len({configuration.recipe.learning_rate for configuration in others}) == 2
