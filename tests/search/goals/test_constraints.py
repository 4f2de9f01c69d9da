"""Limits on what a setting may cost: how they are told, drawn within, raced under, and kept from the champion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from formula import carry_out, formula_study
from optuna.trial import TrialState
from visits import DiskStudy

from orchestrator.common.errors import BadStudy
from orchestrator.ray_cluster.machine import Machine
from orchestrator.results.views.study_scores import board
from orchestrator.results.views.tables import leaderboard, leaderboard_dicts
from orchestrator.search.goals.constraints import limits_of
from orchestrator.search.goals.goals import SecondaryGoals
from orchestrator.search.race.rules import RULES, Race
from orchestrator.search.samplers.draw import draw, refuse_unless_allowed
from orchestrator.search.samplers.past_trials import PastTrial
from orchestrator.search.samplers.registry import SAMPLERS, sampler_names
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.study_spec import StudySpec
from orchestrator.selection.ranking import select_trial
from orchestrator.study.checks import check

optuna.logging.set_verbosity(optuna.logging.WARNING)
WIDE = parse_space("""
network = "unet"
[search]
base_channels = { choice = [2, 4, 8, 64] }
learning_rate = { log_uniform = [1e-5, 1e-1] }
[baseline]
base_channels = 64
learning_rate = 1e-4
""")
SMALL = SecondaryGoals(limits=limits_of(["parameters<=1e5"]))  # two or four channels
FAST = ("inference_ms<=3.5",)  # by formula: a learning rate above 3.2e-4


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A home with drawn frames in it."""
    home = tmp_path_factory.mktemp("home")
    formula_study(home, num_trials=1)
    return home


def seen(params: dict, value: float) -> PastTrial:
    """A trial of these parameters, with how far it is within the limits."""
    study = optuna.create_study()
    study.enqueue_trial(params)
    trial = study.ask()
    flat = WIDE.sample(trial)
    study.tell(trial, value)
    return PastTrial(study.trials[0], value, 5, (), SMALL.excess(WIDE.configuration(flat)))


@pytest.mark.parametrize(
    "text", ["parameters<=7763041", "parameters<=5e+06", "inference_ms<=0.1", "gmacs<=1e-07"]
)
def test_a_limit_is_kept_as_it_was_given(text: str):
    (limit,) = limits_of([text])
    assert limits_of([str(limit)]) == (limit,) and limit.most == float(text.split("=")[1])


def test_a_limit_is_finite():
    with pytest.raises(BadStudy, match="expected a finite limit above 0"):
        limits_of(["parameters<=1e400"])


def test_everything_that_is_no_limit_is_said_at_once():
    with pytest.raises(BadStudy) as refusal:
        limits_of(["parameters<=5e6", "small", "dice<=0.5", "gmacs<=0", "gmacs >= 2", "gmacs<=1.2.3"])
    assert len(refusal.value.problems) == 5
    assert "expected a limit of one of parameters, gmacs, inference_ms, found dice" in str(refusal.value)


def test_a_limit_says_by_how_much_it_is_exceeded():
    (limit,) = limits_of(["parameters <= 1E5"])
    assert str(limit) == "parameters<=100000"
    configuration = WIDE.configuration(WIDE.baseline_params())
    assert limit.excess(configuration) == pytest.approx(31_037_633 / 1e5 - 1)
    assert limit.broken(configuration) == "parameters 31,037,633 above the limit of 100000"
    (measured,) = limits_of(["inference_ms<=3"])
    assert measured.excess(configuration) is None and measured.broken(configuration) is None
    assert measured.broken(configuration, [4.0, 2.9, 3.1]) == "inference_ms 3.1 above the limit of 3"


@pytest.mark.parametrize("sampler", [*SAMPLERS, "optuna:NSGAIISampler(population_size=2)"])
def test_no_sampler_draws_what_is_known_to_cost_too_much(sampler):
    found = [seen(WIDE.baseline, 0.9)]
    for number in range(8):
        drawn = draw(WIDE, found, sampler, number, secondary=SMALL)
        assert drawn.params["base_channels"] in (2, 4)
        found.append(seen(drawn.params, 0.5))
    assert draw(WIDE, found, sampler, 99, secondary=SMALL) == draw(WIDE, found, sampler, 99, secondary=SMALL)


def test_limits_that_no_configuration_keeps_are_refused(tmp_path):
    with pytest.raises(
        BadStudy, match="none of 1000 random configurations of this space stays within parameters<=10"
    ):
        refuse_unless_allowed(WIDE, SecondaryGoals(limits=limits_of(["parameters<=10"])), seed=0)
    study = formula_study(tmp_path, num_trials=1).with_options(constraints=("parameters<=10",))
    with pytest.raises(BadStudy, match="--constraint"):
        check(study, Machine())


@pytest.mark.parametrize("race", ["paired", "none"])
def test_what_is_measured_as_too_slow_stops_after_its_first_fold_and_never_wins(template, tmp_path, race):
    disk = DiskStudy(template, tmp_path, num_trials=12, race=race, constraints=FAST)
    visits = [*iter_folds(disk)]
    slow = [t for t in disk.trials if t.params["learning_rate"] < 3.1e-4]
    assert len(slow) >= 2 and slow[0].number == 0 and slow[0].state == TrialState.COMPLETE
    for trial in disk.trials:
        excess = trial.constraints["inference_ms<=3.5"]
        assert (excess > 0) == (trial in slow)
    for trial in slow[1:]:
        assert trial.state == TrialState.PRUNED and "above the limit" in trial.user_attrs["stopped"]
        assert [number for number, _ in visits].count(trial.number) == 1
    fast = [t for t in disk.trials if t.state == TrialState.COMPLETE and t not in slow]
    assert fast and disk.state.race.incumbent in {t.number for t in fast}


def iter_folds(disk: DiskStudy):
    """Carry out a study fold by fold, as lanes would; (trial, fold) as they finish."""
    while True:
        name, visit = disk.suggest()
        if visit == "FINISHED":
            return
        for fold in visit["folds"]:
            disk.train(visit, [fold])
            yield visit["number"], fold
            if disk.engine.finish(visit["number"], fold).action == "stop":
                break
        disk.searcher.on_trial_complete(name, {})


@pytest.mark.slow
def test_killed_after_every_visit_it_is_the_study_that_nothing_disturbed(template, tmp_path):
    kind = {"num_trials": 7, "race": "paired", "constraints": FAST}
    visits = DiskStudy(template, tmp_path / "a", **kind).run()
    parts: list[dict] = []
    while step := DiskStudy(template, tmp_path / "b", **kind).run(1):
        parts += step
    assert parts == visits


@pytest.mark.parametrize("rule", sorted(RULES))
def test_no_trial_is_compared_with_an_ineligible_one(rule):
    race = Race(rule, [["a", "b", "c", "d"]] * 5)
    high, low = [0.9, 0.8, 0.9, 0.8], [0.5, 0.4, 0.5, 0.4]
    race.exclude(0)
    race.see(0, dict.fromkeys(range(5), high))
    assert race.incumbent == 0  # there is nobody else
    race.see(1, {0: low, 1: low})
    assert race.incumbent == 1
    assert race.judge(1).action == "go"
    race.see(2, {0: low, 1: low})
    assert race.judge(2).action in ("go", "pause")


def test_the_table_ranks_it_last_and_no_rule_hands_it_over(tmp_path):
    study = formula_study(tmp_path, num_trials=3).with_options(constraints=("inference_ms<=2.9",))
    carry_out(study, [1e-4, 1e-3, 10**-2.5])
    store = study.store
    assert [trial.number for trial, _ in store.ranked()] == [2, 1, 0]  # 1 is best and too slow
    assert [trial.number for trial, _ in store.feasible()] == [2]
    rows = leaderboard_dicts(board(store.snapshot()))
    assert [(row["rank"], row["trial"]) for row in rows] == [(1, 2), (None, 0), (None, 1)]
    assert "inference_ms 4 above the limit of 2.9" in str(rows[1]["broken"])
    leaderboard(board(store.snapshot()), "title")
    for rule in ("best", "one-se"):
        assert select_trial(store.snapshot(), store.ranked(), rule=rule).chosen == 2


def test_a_study_keeps_its_limits_however_they_are_written(tmp_path):
    study = formula_study(tmp_path, num_trials=1)
    study.store.begin(study.space, study.plan, StudySpec(constraints=("parameters<=5e6",)))
    study.store.begin(study.space, study.plan, StudySpec(constraints=("parameters <= 5000000",)))
    assert [str(limit) for limit in study.store.secondary().limits] == ["parameters<=5e+06"]
    with pytest.raises(BadStudy, match="constraints: was"):
        study.store.begin(study.space, study.plan)


def test_samplers_of_several_objectives_keep_limits_too():
    directions = optuna.create_study(directions=["maximize", "minimize"]).directions
    for sampler in sampler_names(2):
        found = [replace(seen(WIDE.baseline, 0.9), secondary=(1.0,))]
        for number in range(4):
            drawn = draw(WIDE, found, sampler, number, directions, SMALL)
            assert drawn.params["base_channels"] in (2, 4)
            found.append(replace(seen(drawn.params, 0.5), secondary=(0.5,)))
