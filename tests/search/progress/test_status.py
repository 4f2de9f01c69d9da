"""How a study stands: told while it runs, read from elsewhere, and after it was killed; without Ray."""

import json
import logging
import re
import time
from dataclasses import replace

import pytest
from formula import formula_study, row
from visits import DiskStudy

from orchestrator.search.budget.limits import Budget, FitCost, Resources
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.progress.monitor import ProgressMonitor
from orchestrator.search.progress.recorded import recorded_status
from orchestrator.search.progress.time_left import Ahead, Pace, fits_a_configuration, forecast
from orchestrator.search.records.status import (
    FoldView,
    LaneCount,
    Left,
    Status,
    TrialView,
    as_json,
    is_alive,
    read_status,
    write_status,
)
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import read_trial
from orchestrator.study.run import note_former_race


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    formula_study(home, num_trials=1)
    return home


def some_status(**changes) -> Status:
    folds = (FoldView("done", 3, 3, 0.7), FoldView("running", 1, 3, 0.6), FoldView())
    trial = TrialView(4, "running", 0.7, folds, {"learning_rate": 1e-3}, "above")
    status = Status("formula", "searching", "paired", "40 trials", 100.0, 160.0, 7, "here", (trial,))
    return replace(status, unfinished={"abc": (2, 0.2, 1)}, left=Left(60.0, 3.0, "3 fits"), **changes)


def test_a_status_is_read_as_it_was_written(tmp_path):
    write_status(tmp_path / "status.json", some_status())
    assert read_status(tmp_path / "status.json") == some_status()
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]
    assert as_json(some_status())["seconds"] == 60.0


@pytest.mark.parametrize("content", [None, "", '{"study": ', '{"study": "of another version"}'])
def test_no_status_is_no_trouble(tmp_path, content):
    path = tmp_path / "status.json"
    if content is not None:
        path.write_text(content)
    assert read_status(path) is None and not is_alive(path)


def test_a_heart_that_does_not_beat_is_dead_and_one_that_ended_is_not_asked(tmp_path):
    path = tmp_path / "status.json"
    slept: list[float] = []
    write_status(path, some_status())
    assert is_alive(path, now=lambda: 165.0, sleep=slept.append) and not slept
    assert not is_alive(path, now=lambda: 1000.0, sleep=slept.append) and slept == [3.0]
    write_status(path, some_status(state="ended"))
    assert not is_alive(path, now=lambda: 161.0, sleep=slept.append) and slept == [3.0]


def test_clocks_that_differ_do_not_kill_a_study(tmp_path):
    path = tmp_path / "status.json"
    write_status(path, some_status())
    assert is_alive(
        path, now=lambda: 99_999.0, sleep=lambda s: write_status(path, some_status(heartbeat=163.0))
    )


AHEAD = Ahead(new=10, fits_a_configuration=1.5, in_flight=2.0, finals=3.0)
PACE = Pace(FitCost(60.0, 20.0), epochs_per_second=0.5, gpus=4.0)


def test_the_time_left_follows_from_fits_epochs_and_pace_and_says_so():
    left = forecast(Budget(trials=40), Resources(), AHEAD, PACE)
    assert (left.fits, left.seconds) == (20.0, 20 * 20 / 0.5)
    assert left.how == (
        "20 fits: 10 new trials x 1.5 fits, 2.0 in flight, 3 for the finalists; 20 epochs each, 0.5 per second"
    )


def test_the_budget_that_is_used_up_first_says_when():
    spent = Resources(hours=1.0, gpu_hours=3.0, epochs=900)
    assert forecast(Budget(trials=40, hours=1.1), spent, AHEAD, PACE).seconds == pytest.approx(360)
    assert forecast(Budget(gpu_hours=4.0), spent, replace(AHEAD, new=None), PACE).seconds == 900
    assert forecast(Budget(epochs=1000), spent, replace(AHEAD, new=None), PACE).seconds == 200


def test_nobody_can_tell_when_no_improvement_is_likely():
    left = forecast(Budget(until_unlikely=True), Resources(), replace(AHEAD, new=None), PACE)
    assert (left.seconds, left.how) == (None, "until no improvement is likely")
    assert forecast(Budget(trials=40, until_unlikely=True), Resources(), AHEAD, PACE).how.startswith(
        "at most "
    )


def test_before_the_first_fit_there_is_no_estimate():
    left = forecast(Budget(trials=40), Resources(), AHEAD, Pace(None, None, 1.0))
    assert (left.seconds, left.fits) == (None, 20.0)


def test_fits_a_configuration_are_learned_from_the_race():
    assert fits_a_configuration([], 5, races=True) == 3.0
    assert fits_a_configuration([1] * 38 + [5], 5, races=True) == pytest.approx(46 / 40)
    assert fits_a_configuration([1] * 38, 5, races=False) == 5.0


class Watched:
    """A study in its own home, watched, whose visits are carried out one after another without Ray."""

    def __init__(self, home, name: str, num_trials: int) -> None:
        self.store = StudyStore(home, name)
        self.disk = DiskStudy(home, self.store.folder, num_trials=num_trials, race="paired")
        self.store.begin(self.disk.study.space, self.disk.study.plan)
        self.seen: list[Status] = []
        self.gate = self.disk.gate
        self.monitor = ProgressMonitor(self.store, self.gate, "paired", self.seen.append)
        self.monitor.follow(self.disk.engine, self.disk.trials)

    def visit(self, *, epochs_in_flight: int = 0) -> None:
        """Carry out one visit; with epochs in flight stop in the midst of its first fold."""
        name, visit = self.disk.suggest()
        number, fold = visit["number"], visit["folds"][0]
        self.monitor.visit(number, visit["params"], visit["folds"])
        if epochs_in_flight:
            rows = [row(epoch, 0.4) for epoch in range(epochs_in_flight)]
            spec = fold_specs(self.disk.state.configurations[number], self.disk.study.plan)[fold]
            self.gate.usage.add_epochs(spec.fit_id, rows)
            self.monitor.epochs_reported(number, fold, rows, 3, done=False)
            return
        self.disk.carry_out(name, visit)
        self.monitor.leave(number)
        stored = self.disk.trials[number]
        if stored.state.is_finished():
            self.monitor.trial_ended(
                read_trial(stored, self.disk.study.space, self.disk.study.plan, self.store.ledger)
            )


@pytest.fixture
def watched(template, request):
    return Watched(template, re.sub(r"\W", "-", request.node.name), num_trials=6)


def test_what_is_shown_is_what_the_race_knows(watched):
    with watched.monitor:
        watched.visit()
        watched.visit()
        watched.visit(epochs_in_flight=2)
        watched.monitor.now("searching")
        shown = watched.monitor.latest
    by_number = {trial.number: trial for trial in shown.trials}
    assert [by_number[n].state for n in range(3)] == ["complete", "waiting", "running"]
    assert [by_number[n].num_done for n in range(3)] == [5, 1, 0]
    assert by_number[2].folds[0] == FoldView("running", 2, 3, val_dice=0.4)
    assert by_number[1].params.keys() == {"learning_rate"}
    assert shown.best is not None and (shown.best.number, shown.best.num_folds) == (0, 5)
    assert (shown.fits_done, shown.epochs_done) == (6, 6 * 3 + 2)
    assert shown.images_per_second == 100.0
    assert shown.left.fits == pytest.approx(3 * 2.0 + 1 / 3 + 4)  # new, in flight, of the one that waits


def test_the_file_is_written_while_it_runs_and_says_how_it_ended(watched):
    watched.monitor.count = lambda: LaneCount(2, 2, 1, 3)
    with watched.monitor:
        watched.visit()
        deadline = time.monotonic() + 20
        while not watched.seen:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert is_alive(watched.store.status_file)
        assert read_status(watched.store.status_file).lanes == LaneCount(2, 2, 1, 3)
    assert watched.seen[-1].state == "ended" and not is_alive(watched.store.status_file)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_study_that_did_not_end_well_says_so(watched, error):
    with pytest.raises(error), watched.monitor:
        raise error
    expected = "interrupted" if error is KeyboardInterrupt else "failed"
    assert recorded_status(watched.store.snapshot()).state == expected


def test_trouble_with_the_status_is_logged_once_and_the_search_goes_on(watched, caplog):
    def refuse(status: Status) -> None:
        raise OSError("no space left")

    watched.monitor.show = refuse
    with caplog.at_level(logging.WARNING), watched.monitor:
        watched.monitor._guarded(watched.monitor._beat)
        watched.monitor._guarded(watched.monitor._beat)
        watched.visit()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no space left" in caplog.text


def test_a_killed_study_is_told_from_ledger_and_journal(watched):
    for _ in range(3):
        watched.visit()
    watched.visit(epochs_in_flight=2)
    watched.monitor.draw()
    watched.monitor._beat()  # and then it is killed
    shown, found = watched.monitor.latest, recorded_status(watched.store.snapshot())
    assert found.state == "killed"
    assert [(t.number, t.dice, t.num_done) for t in found.trials] == [
        (t.number, t.dice, t.num_done) for t in shown.trials
    ]
    assert found.best == shown.best
    assert (found.fits_done, found.epochs_done) == (shown.fits_done, shown.epochs_done)
    assert {trial.state for trial in found.trials} == {"complete", "waiting", "open"}
    again = ResourceUsage(watched.store.ledger, found.unfinished)
    assert again.spent().epochs == shown.epochs_done


def test_who_looks_at_a_study_that_has_just_begun_makes_nothing(tmp_path):
    study = formula_study(tmp_path, num_trials=1)
    study.store.begin(study.space, study.plan)
    assert recorded_status(study.store.snapshot()).trials == ()
    assert not study.store.journal_file.exists()


def test_a_study_without_a_status_is_reported_too(watched):
    watched.visit()
    found = recorded_status(watched.store.snapshot())
    assert (found.state, found.fits_done) == ("killed", 5)
    json.dumps(as_json(found))


def test_a_study_begun_with_a_race_of_earlier_versions_is_shown_and_goes_on_by_another(tmp_path, caplog):
    study = formula_study(tmp_path, num_trials=1, race="paired")
    study.store.begin(study.space, study.plan)
    write_status(study.store.status_file, some_status(race="median"))
    assert recorded_status(study.store.snapshot()).race == "median"
    note_former_race(study)
    assert "--race median, which is no longer offered: it continues with --race paired" in caplog.text
