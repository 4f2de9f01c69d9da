"""Searches that end although they might not: nothing is left to try, everything fails, a failure comes in between."""

from pathlib import Path

import pytest
from formula import formula_study, row
from optuna.trial import TrialState
from ray.tune.search import Searcher
from visits import DiskStudy

from orchestrator.search.choices import RuleName, SamplerName
from orchestrator.search.engine import MAX_FAILED, MAX_LOST
from orchestrator.search.progress.trial_views import trial_views
from orchestrator.search.race.rules import Race, Verdict
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.space.space_file import parse_space

FEW = """
network = "unet"
[search]
{search}
[fixed]
batch_size = 2
epochs = 3
image_size = 32
{fixed}
[baseline]
{baseline}
"""
FOUR_RATES = parse_space(
    FEW.format(
        search="learning_rate = {choice = [1e-4, 1e-3, 1e-2, 1e-1]}",
        fixed="",
        baseline="learning_rate = 1e-4",
    )
)
NOTHING_TO_DRAW = [
    parse_space(FEW.format(search="", fixed="learning_rate = 1e-3", baseline="")),
    parse_space(
        FEW.format(search="threshold = {sweep = [0.05, 0.95]}", fixed="learning_rate = 1e-3", baseline="")
    ),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A home with drawn frames in it."""
    home = tmp_path_factory.mktemp("home")
    formula_study(home, num_trials=1)
    return home


@pytest.mark.parametrize(
    ("race", "sampler"), [("none", "tpe"), ("paired", "surrogate"), ("paired", "random")]
)
def test_a_search_ends_when_every_configuration_was_tried(
    template, tmp_path, race: RuleName, sampler: SamplerName
):
    budget = {"num_trials": None, "epochs": 600, "race": race, "sampler": sampler, "space": FOUR_RATES}
    disk = DiskStudy(template, tmp_path, **budget)
    disk.run()
    assert sorted(trial.params["learning_rate"] for trial in disk.trials) == [1e-4, 1e-3, 1e-2, 1e-1]
    assert disk.gate.end is not None and disk.gate.end.by == "space"
    again = DiskStudy(template, tmp_path, **budget)
    assert again.engine.is_over and again.run() == []


@pytest.mark.parametrize("space", NOTHING_TO_DRAW)
def test_a_space_with_nothing_to_draw_is_the_papers_configuration_alone(
    template, tmp_path, space: SearchSpace
):
    disk = DiskStudy(template, tmp_path, num_trials=5, space=space)
    assert [visit["folds"] for visit in disk.run()] == [[0, 1, 2, 3, 4]]
    assert [trial.state for trial in DiskStudy(template, tmp_path, num_trials=5, space=space).trials] == [
        TrialState.COMPLETE
    ]


@pytest.mark.parametrize("budget", [{"epochs": 30}, {"until_unlikely": True}, {"num_trials": 99}])
def test_a_run_gives_up_when_trials_fail_one_after_another_and_the_next_run_tries_again(
    template, tmp_path, budget
):
    options = {"num_trials": None, "race": "paired", **budget}
    disk = DiskStudy(template, tmp_path, **options)
    while (asked := disk.suggest())[1] != Searcher.FINISHED:
        disk.fail(asked[0], asked[1]["number"], "RuntimeError: no CUDA\nTraceback ...")
    assert len(disk.trials) == MAX_FAILED
    assert disk.gate.end.why == f"{MAX_FAILED} trials in a row failed, the last one: RuntimeError: no CUDA"
    again = DiskStudy(template, tmp_path, **options)
    assert not again.engine.is_over and again.suggest()[1]["number"] == MAX_FAILED


def test_a_trial_whose_process_was_killed_goes_on_where_it_was(template, tmp_path):
    disk = DiskStudy(template, tmp_path, num_trials=2, race="paired")
    name, visit = disk.suggest()
    for fold in (0, 1):
        disk.train(visit, [fold])
        disk.engine.finish(0, fold)
    disk.searcher.on_trial_complete(name, error=True)
    name, visit = disk.suggest()
    assert (visit["number"], visit["folds"]) == (0, [2, 3, 4])
    for _ in range(MAX_LOST - 1):
        disk.searcher.on_trial_complete(name, error=True)
        name, visit = disk.suggest()
    assert visit == Searcher.FINISHED and disk.gate.end.by == "machine"
    assert disk.trials[0].state == TrialState.RUNNING


def test_trials_that_wait_are_not_tried_once_a_run_has_given_up(template, tmp_path):
    disk = DiskStudy(template, tmp_path, num_trials=99, race="paired")
    disk.run(8)
    assert len(disk.engine.waiting) >= 3
    while (asked := disk.suggest())[1] != Searcher.FINISHED:
        disk.fail(asked[0], asked[1]["number"])
    open_trials = [trial.number for trial in disk.trials if trial.state == TrialState.RUNNING]
    assert open_trials == sorted(disk.engine.waiting) and len(open_trials) >= 3


def test_a_configuration_that_failed_is_no_incumbent_and_a_resumed_study_agrees(template, tmp_path):
    options = {"num_trials": 12, "race": "paired"}
    disk = DiskStudy(template, tmp_path, **options)
    name, visit = disk.suggest()
    for fold in (0, 1):
        disk.train(visit, [fold])
        disk.engine.finish(0, fold)
    disk.fail(name, 0, "fold 2: out of memory")
    name, visit = disk.suggest()
    against_0 = Verdict("stop", "hopeless", 0, {"best_dice": 0.01, "target": 0.5})
    disk.state.record_cut(visit["number"], against_0)
    disk.searcher.on_trial_complete(name, {})
    disk.run(2)
    again = DiskStudy(template, tmp_path, **options)
    assert again.state.race.incumbent == disk.state.race.incumbent != 0
    assert again.engine.waiting == disk.engine.waiting
    again.run()
    assert TrialState.RUNNING not in {trial.state for trial in again.trials}


def test_a_configuration_that_failed_after_a_verdict_can_still_be_shown_when_the_study_is_resumed(
    template, tmp_path
):
    disk = DiskStudy(template, tmp_path, num_trials=12, race="paired")
    disk.run(2)
    disk.engine.waiting.clear()
    disk.engine.next.append(1)
    name, visit = disk.suggest()
    assert visit["number"] == 1
    disk.fail(name, 1)
    again = DiskStudy(template, tmp_path, num_trials=12, race="paired")
    views, _ = trial_views(again.state, {1: "failed"}, {}, {})
    failed = next(view for view in views if view.number == 1)
    assert failed.num_done == 1
    shown, _ = trial_views(disk.state, {1: "failed"}, {}, {})
    assert failed == next(view for view in shown if view.number == 1)


def test_a_fold_that_comes_in_after_the_verdict_is_judged_too(template, tmp_path):
    disk = DiskStudy(template, tmp_path, num_trials=2, race="paired", num_lanes=6)
    disk.run(1)
    name, visit = disk.suggest()
    disk.train(visit)
    disk.engine.finish(1, 0)
    disk.train(visit, [1])
    disk.searcher.on_trial_complete(name, {})
    name, visit = disk.suggest()
    assert (visit["number"], visit["folds"]) == (1, [1])


def test_a_verdict_is_on_the_folds_that_it_has_seen(template, tmp_path):
    disk = DiskStudy(template, tmp_path, race="paired")
    disk.run(1)
    _, visit = disk.suggest()
    disk.train(visit)
    judge = disk.state.race.judge

    def one_comes_in(number: int) -> Verdict:
        disk.train(visit, [1])
        return judge(number)

    disk.state.race.judge = one_comes_in  # type: ignore[method-assign]
    disk.engine.finish(1, 0)
    assert disk.state.judged[1] == (0,) and disk.state.unjudged(1) == [1]


def test_budgets_are_not_closed_by_folds_that_nobody_will_ask_for(template, tmp_path):
    """While nobody has all folds, as many finalists are counted as there will be, not everyone in flight."""
    disk = DiskStudy(template, tmp_path, num_trials=None, epochs=240, race="paired", num_lanes=16)
    _, visit = disk.suggest()
    disk.train(visit, [0, 1, 2, 3])
    disk.engine.finish(0, 3)
    for _ in range(12):
        _, other = disk.suggest()
        disk.train(other)
        disk.engine.finish(other["number"], 0)
    assert len(disk.engine.finalists(disk.engine.visits)) == 3
    assert disk.gate.end is None


@pytest.mark.parametrize(("rule", "number"), [("paired", 3), ("asha", 1), ("none", 5)])
def test_finalists_where_nobody_has_all_folds(rule: RuleName, number: int):
    race = Race(rule, [["a", "b"]] * 3)
    for configuration in range(5):
        race.see(configuration, {0: [0.5, 0.5 + configuration / 100]})
    assert len(race.finalists(range(5))) == number


@pytest.mark.parametrize(
    ("race", "limit"), [("none", 91), pytest.param("paired", 100, marks=pytest.mark.slow)]
)
def test_no_budget_is_overdrawn(template, tmp_path, race: RuleName, limit: int):
    """Where scores are noisy, finalists fall behind once they have their folds, and others would take their place."""
    for seed, noise in ((0, 0.0), (0, 0.3), (1, 0.3), (2, 0.3), (3, 0.3)):
        folder = tmp_path / f"{seed}-{noise}"
        disk = DiskStudy(template, folder, num_trials=None, epochs=limit, race=race, noise=noise, seed=seed)
        disk.run()
        assert limit - 20 < disk.gate.usage.spent().epochs <= limit
        assert TrialState.RUNNING not in {trial.state for trial in disk.trials}
        assert TrialState.COMPLETE in {trial.state for trial in disk.trials}


@pytest.mark.parametrize(
    "after", [pytest.param(1, marks=pytest.mark.slow), 6, pytest.param(12, marks=pytest.mark.slow)]
)
def test_a_budget_ends_a_study_that_was_killed_as_one_that_was_not(template, tmp_path, after: int):
    """Epochs of the fit in flight are spent, but its fold needs no more than the rest."""
    options = {"num_trials": None, "epochs": 90, "race": "paired", "noise": 0.3}
    calm = DiskStudy(template, tmp_path / "calm", **options)
    calm.run()
    killed = DiskStudy(template, tmp_path / "killed", **options)
    killed.run(after)
    _, visit = killed.suggest()
    fit_id = killed.state.fit_ids[visit["number"]][visit["folds"][0]]
    killed.gate.usage.add_epochs(fit_id, [row(0, 0.5), row(1, 0.5)])
    resumed = DiskStudy(template, tmp_path / "killed", unfinished=killed.gate.usage.unfinished(), **options)
    resumed.run()
    assert [(t.state, t.value) for t in resumed.trials] == [(t.state, t.value) for t in calm.trials]


def test_a_failure_that_optuna_was_not_told_of_is_forgotten(template, tmp_path):
    disk = DiskStudy(template, tmp_path)
    disk.suggest()
    disk.ledger.write_failure(0, "the loss became nan")
    again = DiskStudy(template, tmp_path)
    assert again.ledger.failure(0) is None
