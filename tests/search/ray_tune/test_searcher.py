"""The engine under Tune's searcher, with a ledger that is filled by formula, and no Ray."""

import json
from pathlib import Path

import pytest
from formula import formula_study, quality
from optuna.trial import TrialState
from ray.tune.search import Searcher
from visits import NUM_FOLDS, DiskStudy

from orchestrator.common.faults import machine_fault
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.search.engine import MAX_LOST
from orchestrator.search.race.rules import Race, Verdict
from orchestrator.search.race.verdict_log import read_verdicts
from orchestrator.search.samplers.fold_aware_sampler import PosteriorMeans
from orchestrator.search.samplers.past_trials import PastTrial


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A home with drawn frames in it."""
    home = tmp_path_factory.mktemp("home")
    formula_study(home, num_trials=1)
    return home


def rates(visits: list[dict]) -> list[float]:
    """The learning rates that were asked for, in the order of the trials."""
    return [rate for _, rate in sorted({(v["number"], v["params"]["learning_rate"]) for v in visits})]


def test_the_papers_configuration_is_always_trial_0_and_gets_all_folds(template, tmp_path):
    _, visit = DiskStudy(template, tmp_path, race="paired").suggest()
    assert (visit["number"], visit["params"]["learning_rate"]) == (0, 1e-4)
    assert visit["folds"] == [0, 1, 2, 3, 4]


def test_a_new_configuration_of_a_race_begins_with_one_fold(template, tmp_path):
    disk = DiskStudy(template, tmp_path, race="paired")
    disk.run(1)
    assert disk.suggest()[1]["folds"] == [0]


def test_without_a_race_every_trial_gets_all_folds_in_one_visit(template, tmp_path):
    disk = DiskStudy(template, tmp_path)
    assert [visit["folds"] for visit in disk.run()] == [[0, 1, 2, 3, 4]] * 4
    assert [trial.state for trial in disk.trials] == [TrialState.COMPLETE] * 4


def test_a_race_takes_fewer_folds_and_ends_with_all_folds_of_the_best(template, tmp_path):
    disk = DiskStudy(template, tmp_path, num_trials=12, race="paired")
    visits = disk.run()
    assert sum(len(visit["folds"]) for visit in visits) < 12 * NUM_FOLDS / 2
    complete = [t for t in disk.trials if t.state == TrialState.COMPLETE]
    best = max(disk.trials, key=lambda t: quality(t.params["learning_rate"]))
    assert best in complete
    assert len(complete) < 12
    assert {t.state for t in disk.trials} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_a_stopped_trial_is_told_with_an_honest_value_and_its_reason(template, tmp_path):
    disk = DiskStudy(template, tmp_path, num_trials=8, race="paired")
    disk.run()
    stopped = [t for t in disk.trials if t.state == TrialState.PRUNED]
    for trial in stopped:
        found = quality(trial.params["learning_rate"])
        assert trial.value == pytest.approx(2 * found / (1 + found), abs=0.01)
        assert "Dice points against" in trial.user_attrs["stopped"]


def test_the_verdicts_can_be_replayed_from_log_and_ledger(template, tmp_path):
    disk = DiskStudy(template, tmp_path, num_trials=8, race="paired")
    disk.run()
    plan = disk.study.plan
    again = Race("paired", [[disk.groups[case_id] for case_id in fold.val] for fold in plan.folds])
    lines = read_verdicts(disk.log)
    assert len(lines) >= 8
    seen: dict[int, PastTrial] = {}
    for line in lines:
        number = line["trial"]
        records = [disk.ledger.read(disk.state.fit_ids[number][fold]) for fold in line["folds"]]
        masks = disk.state.scores[number].masks
        dice = [scores_under(record.histograms, masks)["dice"] for record in records]
        again.see(number, dict(zip(line["folds"], dice, strict=True)))
        again.predict({})  # estimates do not depend on what was predicted before
        for other in {*seen, number}:
            folds = line["folds"] if other == number else range(seen[other].num_folds)
            complete = len(folds) == NUM_FOLDS
            value = disk.state.value(other) if complete else again.estimate(other)
            of_folds = {"by_fold": again.board.by_fold(other), "fold_weights": again.board.fold_weights}
            seen[other] = PastTrial(disk.state.drawn[other], value, len(folds), **of_folds)
        numbers = sorted(seen)
        means = PosteriorMeans([seen[other].shown for other in numbers]).all()
        again.predict(dict(zip(numbers, means, strict=False)))
        verdict = again.judge(number)
        assert (verdict.action, verdict.reason) == (line["action"], line["reason"])


def test_lanes_that_idle_at_the_end_are_given_several_folds(template, tmp_path):
    disk = DiskStudy(template, tmp_path, num_trials=6, race="paired", num_lanes=4)
    visits = disk.run()
    new = [visit for visit in visits if visit["number"] and visit["folds"][0] == 0]
    assert {len(visit["folds"]) for visit in new} == {1}
    assert max(len(visit["folds"]) for visit in visits if visit["number"]) > 1


def test_more_lanes_more_visits_at_a_time(template, tmp_path):
    disk = DiskStudy(template, tmp_path, num_trials=9, race="paired", num_lanes=3)
    visits = [disk.suggest()[1] for _ in range(6)]
    assert [visit is not None for visit in visits] == [True] * 4 + [False] * 2
    assert len({visit["number"] for visit in visits[:4]}) == 4


def test_the_budget_counts_trials_of_earlier_runs(template, tmp_path):
    DiskStudy(template, tmp_path, num_trials=3).run()
    later = DiskStudy(template, tmp_path)
    assert not later.engine.is_over
    assert len(later.run()) == 1
    assert later.engine.is_over
    assert later.suggest()[1] == Searcher.FINISHED


def test_a_budget_of_epochs_names_a_champion_with_all_folds_and_is_hardly_overdrawn(template, tmp_path):
    disk = DiskStudy(template, tmp_path, num_trials=None, race="paired", epochs=90)
    disk.run()
    assert disk.gate.end.by == "epochs"
    assert 80 <= disk.gate.usage.spent().epochs <= 90
    best = max((t for t in disk.trials), key=lambda t: t.value)
    assert best.state == TrialState.COMPLETE
    assert TrialState.RUNNING not in {t.state for t in disk.trials}
    assert DiskStudy(template, tmp_path, num_trials=None, race="paired", epochs=90).run() == []
    assert len(DiskStudy(template, tmp_path, num_trials=None, race="paired", epochs=120).run()) >= 5


def test_when_the_hours_are_over_waiting_trials_wait_for_the_next_run(template, tmp_path):
    first = DiskStudy(template, tmp_path, num_trials=12, race="paired", hours=1.0)
    first.run(5)
    assert len(first.engine.waiting) == 3
    first.gate.usage.started -= 3600
    first.run(1)
    assert first.gate.end.by == "hours"
    later = DiskStudy(template, tmp_path, num_trials=12, race="paired", hours=1.0)
    assert not later.engine.is_over and later.engine.waiting
    later.run()
    assert len(later.trials) == 12 and TrialState.RUNNING not in {t.state for t in later.trials}


def test_a_search_ends_by_itself_when_no_improvement_is_likely(template, tmp_path):
    disk = DiskStudy(template, tmp_path, num_trials=80, race="paired", until_unlikely=True)
    disk.run()
    assert disk.gate.end.by == "until_unlikely" and len(disk.trials) < 60
    best = max(quality(t.params["learning_rate"]) for t in disk.trials if t.state == TrialState.COMPLETE)
    assert best > 0.98


def test_an_interrupted_trial_is_taken_up_under_its_number(template, tmp_path):
    first = DiskStudy(template, tmp_path)
    first.run(2)
    before = first.suggest()[1]
    assert DiskStudy(template, tmp_path).suggest()[1] == before


def test_a_trial_that_died_before_it_had_its_parameters_is_given_those_it_would_have_had(template, tmp_path):
    undisturbed = DiskStudy(template, tmp_path / "a", num_trials=3).run()
    first = DiskStudy(template, tmp_path / "b", num_trials=3)
    first.run(2)
    first.engine.trials.study.enqueue_trial({"learning_rate": undisturbed[2]["params"]["learning_rate"]})
    first.engine.trials.study.ask()  # killed here: it is in the journal, without its parameters
    assert rates(DiskStudy(template, tmp_path / "b", num_trials=3).run()) == rates(undisturbed[2:])


def test_a_trial_that_was_interrupted_within_a_fold_stays_open(template, tmp_path):
    first = DiskStudy(template, tmp_path)
    name, visit = first.suggest()
    first.train(visit, folds=[])
    first.searcher.on_trial_complete(name, {"number": 0})
    assert first.trials[0].state == TrialState.RUNNING


def test_a_fold_that_came_in_as_the_study_died_is_judged_first(template, tmp_path):
    first = DiskStudy(template, tmp_path, race="paired")
    first.run(1)
    visit = first.suggest()[1]
    first.train(visit)  # on record, and killed before anybody judged
    again = DiskStudy(template, tmp_path, race="paired")
    assert again.suggest()[1] == visit
    again.engine.finish(visit["number"], visit["folds"][0])
    assert again.state.is_judged(visit["number"])


def test_a_failed_trial_is_told_as_failed_with_its_error(template, tmp_path):
    first = DiskStudy(template, tmp_path)
    name, _ = first.suggest()
    first.ledger.write_failure(0, "the loss became nan")
    first.searcher.on_trial_complete(name, error=True)
    assert first.trials[0].state == TrialState.FAIL
    assert first.trials[0].user_attrs["error"] == "the loss became nan"


@pytest.mark.parametrize("race", [pytest.param("none", marks=pytest.mark.slow), "paired"])
def test_a_study_that_is_killed_after_every_visit_is_the_one_that_nothing_disturbed(template, tmp_path, race):
    whole = DiskStudy(template, tmp_path / "a", num_trials=9, race=race)
    visits = whole.run()
    parts: list[dict] = []
    while step := DiskStudy(template, tmp_path / "b", num_trials=9, race=race).run(1):
        parts += step
    assert parts == visits
    other = DiskStudy(template, tmp_path / "b", num_trials=9, race=race)
    assert [(t.state, t.params, t.value) for t in other.trials] == [
        (t.state, t.params, t.value) for t in whole.trials
    ]
    assert [line | {"at": 0} for line in read_verdicts(other.log)] == [
        line | {"at": 0} for line in read_verdicts(whole.log)
    ]


def test_a_study_is_taken_up_with_the_predictions_that_it_had(template, tmp_path):
    """Over the worst fold an incomplete trial is put as far below its mean as the incumbent is, which is predicted."""
    options = {"num_trials": 24, "race": "paired", "noise": 0.05, "objective": "worst-fold"}
    whole = DiskStudy(template, tmp_path, **options)
    for _ in range(4):
        whole.run(10)
        again = DiskStudy(template, tmp_path, **options)
        assert again.state.race.board.predictions == whole.state.race.board.predictions


def test_a_trial_that_was_cut_against_a_later_one_is_taken_up(template, tmp_path):
    """With several lanes a later trial may have all its folds first."""
    options = {"num_trials": 8, "race": "paired", "num_lanes": 8}
    disk = DiskStudy(template, tmp_path, **options)
    for visit in [disk.engine.ask() for _ in range(3)]:
        for fold in range(NUM_FOLDS if visit.number != 1 else 0):
            disk.train_fit(visit.number, fold)
            disk.engine.finish(visit.number, fold)
    disk.state.record_cut(1, Verdict("stop", "cut", 2, {"best_dice": 0.1, "target": 0.5}))
    for number in range(3):
        disk.engine.end(number)
    again = DiskStudy(template, tmp_path, **options).state
    assert again.known(1) == pytest.approx(again.known(2) - 0.4)


def test_a_verdict_that_was_half_written_is_left_out(template, tmp_path):
    disk = DiskStudy(template, tmp_path)
    disk.run(1)
    before = read_verdicts(disk.log)
    with disk.log.open("a") as file:
        file.write(json.dumps(before[0])[:40])
    assert read_verdicts(disk.log) == before


def test_seeds_differ(template, tmp_path):
    asked = [rates(DiskStudy(template, tmp_path / str(s), num_trials=3, seed=s).run())[1:] for s in (0, 1)]
    assert asked[0] != asked[1]


def test_a_trial_whose_process_dies_again_and_again_stops_the_search_and_never_fails(template, tmp_path):
    disk = DiskStudy(template, tmp_path)
    for _ in range(MAX_LOST):
        name, visit = disk.suggest()
        assert visit["number"] == 0
        disk.searcher.on_trial_complete(name, error=True)
    assert f"died {MAX_LOST} times" in str(machine_fault(disk.engine.fault))
    assert disk.suggest()[1] == Searcher.FINISHED
    assert [trial.state for trial in disk.trials] == [TrialState.RUNNING]
    assert [visit["number"] for visit in DiskStudy(template, tmp_path).run()] == [0, 1, 2, 3]


def test_a_trial_that_has_news_is_alive_whatever_died_before(template, tmp_path):
    disk = DiskStudy(template, tmp_path)
    for _ in range(MAX_LOST + 1):
        name, visit = disk.suggest()
        disk.searcher.on_trial_result(name, {"number": visit["number"], "updates": ["an epoch"]})
        disk.searcher.on_trial_complete(name, error=True)
    assert disk.engine.fault is None


def test_what_tune_was_at_when_it_lost_its_processes_is_suggested_again(template, tmp_path):
    disk = DiskStudy(template, tmp_path, num_lanes=2, race="paired")
    before = [disk.suggest()[1]["number"] for _ in range(3)]
    disk.engine.interrupt()
    assert sorted(disk.suggest()[1]["number"] for _ in range(3)) == sorted(before)
