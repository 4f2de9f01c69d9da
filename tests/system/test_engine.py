"""Whole studies on a Ray of this machine, without networks: see support/formula.py."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import formula
import psutil
import pytest
import ray
from formula import FormulaJobRunner, Heard, formula_study, quality
from optuna.trial import TrialState
from ray.cluster_utils import Cluster

from orchestrator.common.errors import BadStudy, MachineFault
from orchestrator.ray_cluster.machine import Machine
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.progress.recorded import recorded_status
from orchestrator.search.records.status import Named, read_status
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.study_store import StudyStore
from orchestrator.selection.reevaluation import reevaluation_of
from orchestrator.study.run import run_study
from orchestrator.study.runnable_study import RunnableStudy

pytestmark = pytest.mark.slow
SUPPORT = Path(formula.__file__).parent
PATHS = f"{SUPPORT}:{SUPPORT.parents[1]}"
NUM_FOLDS = 5
DIVERGES = 0.02  # what learns faster


@pytest.fixture(scope="module")
def address():
    """A cluster that outlives its studies, as on shared machines."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = PATHS  # for the workers: Ray passes the environment on
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    yield cluster.address
    cluster.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def run(study: RunnableStudy, machine: Machine, **work) -> Heard:
    """Run a study to its end; return what was told of it."""
    heard = Heard()
    run_study(study, machine, FormulaJobRunner(study.store.ledger, **work), [heard])
    return heard


def fits_of(study: RunnableStudy) -> list[str]:
    """The fits that were started, repeats included."""
    return (study.store.ledger.fits.parent / "trained.log").read_text().split()


def learning_rates(study: RunnableStudy) -> list[float]:
    return [trial.params["learning_rate"] for trial in study.store.optuna_study().trials]


def states(study: RunnableStudy) -> Counter:
    return Counter(trial.state for trial in study.store.optuna_study().trials)


@pytest.fixture(scope="module")
def finished(address, tmp_path_factory) -> tuple[RunnableStudy, Heard]:
    """A study of six trials that nothing disturbed."""
    study = formula_study(tmp_path_factory.mktemp("home"), num_trials=6)
    return study, run(study, Machine(address, "cpu", num_lanes=1))


def test_a_study_begins_with_the_baseline_and_ends_with_something_better(finished):
    study, heard = finished
    assert heard.of("trial_started")[0] == (0, 1e-4)
    ((champion,),) = heard.of("finished")
    best = study.store.trials()[champion]
    assert best.score().metrics["dice"] == max(
        trial.score().metrics["dice"] for trial in study.store.trials()
    )
    assert quality(best.params["learning_rate"]) > quality(1e-4)


def test_everything_is_reported_once(finished):
    _, heard = finished
    for kind, times in {
        "trial_finished": 6,
        "fold_finished": 6 * NUM_FOLDS,
        "epoch": 6 * NUM_FOLDS * 3,
    }.items():
        told = heard.of(kind)
        assert len(told) == len(set(told)) == times


def test_optuna_is_told_the_score_of_all_folds(finished):
    study, _ = finished
    for trial, stored in zip(study.store.trials(), study.store.optuna_study().trials, strict=True):
        assert len(trial.records) == NUM_FOLDS
        assert stored.value == trial.score().metrics["dice"]


def test_the_champion_is_scored_on_the_hold_out(finished):
    study, _ = finished
    champion = study.store.champion()
    assert set(study.store.outside_scores(champion.fit_id, PostProcess(0.5))) == {"test"}


def test_only_the_best_trials_keep_their_weights(finished):
    study, _ = finished
    ranked = sorted(study.store.trials(), key=lambda trial: -trial.score().metrics["dice"])
    kept = [all(record.weights.exists() for record in trial.records) for trial in ranked]
    assert kept == [True] * 3 + [False] * 3


def test_a_study_shows_its_trials_and_lanes_while_it_runs_and_says_what_ended_it(finished):
    study, heard = finished
    assert heard.of("ends") == [("trials",)]
    assert {"searching", "ended"} <= {status.state for status in heard.shown}
    assert max(status.lanes.up for status in heard.shown) == 1
    last = read_status(study.store.status_file)
    assert (last.state, last.end, last.unfinished) == ("ended", "6 of 6 trials were started", {})
    assert [trial.state for trial in last.trials] == ["complete"] * 6
    assert (last.fits_done, last.epochs_done) == (6 * NUM_FOLDS, 6 * NUM_FOLDS * 3)


def test_running_a_finished_study_again_trains_nothing(finished):
    study, _ = finished
    before = fits_of(study)
    heard = run(study, Machine(address="nobody:1"))  # not even a cluster is asked
    assert fits_of(study) == before
    assert [event[0] for event in heard.told] == ["finished"]


@pytest.mark.parametrize("change", ["seed", "space"])
def test_a_study_cannot_change_what_it_is_made_of(finished, change):
    study, _ = finished
    other_space = parse_space(study.space.text.replace("epochs = 3", "epochs = 4"))
    changed = {"seed": study.with_options(seed=1), "space": replace(study, space=other_space)}[change]
    with pytest.raises(BadStudy, match=rf"{change}.*: was .*, now "):
        run(changed, Machine())


def test_more_trials_go_on_from_those_that_are_finished(finished, address):
    study, _ = finished
    before = fits_of(study)
    heard = run(study.with_options(trials=8), Machine(address, "cpu", num_lanes=1))
    assert {number for number, _ in heard.of("trial_started")} == {6, 7}
    assert len(fits_of(study)) == len(before) + 2 * NUM_FOLDS
    assert states(study) == {TrialState.COMPLETE: 8}


class Driver:
    """A study in a process of its own, and all that it starts."""

    def __init__(self, home: Path, num_trials: int, race: str = "none") -> None:
        environment = os.environ | {"PYTHONPATH": PATHS}
        command = [sys.executable, str(SUPPORT / "engine_driver.py"), str(home), str(num_trials), "0.1", race]
        self.process = subprocess.Popen(command, env=environment, start_new_session=True)

    def __enter__(self) -> "Driver":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def wait_for_fits(self, study: StudyStore, num_fits: int) -> list[str]:
        """Wait until so many fits are on record; return them."""
        deadline = time.monotonic() + 300
        while len(done := [folder.name for folder in study.ledger.fits.glob("[!.]*")]) < num_fits:
            assert self.process.poll() is None, "the driver ended early"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return done


def children(pid: int, name: str) -> list[int]:
    """Processes below this one whose command has that in it; there are some within seconds."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        below = psutil.Process(pid).children(recursive=True)
        if found := [child.pid for child in below if name in " ".join(child.cmdline())]:
            return found
        time.sleep(0.1)
    raise AssertionError(f"no process is named {name}")


@pytest.fixture(scope="module")
def disturbed(address, tmp_path_factory) -> dict:
    """A study of six trials: Ctrl-C in the middle, then resumed and killed, then resumed to its end."""
    seen = {}
    study = formula_study(tmp_path_factory.mktemp("home"), num_trials=6)
    with Driver(study.store.home, 6) as driver:
        seen["before interrupt"] = driver.wait_for_fits(study.store, 2)
        os.killpg(driver.process.pid, signal.SIGINT)
        seen["exit code"] = driver.process.wait(120)
    seen["after interrupt"] = states(study)
    seen["status after interrupt"] = read_status(study.store.status_file)
    seen["started before interrupt"] = Counter(fits_of(study))
    with Driver(study.store.home, 6) as driver:
        seen["before kill"] = driver.wait_for_fits(study.store, 8)
        with pytest.raises(BadStudy) as refusal:
            run(study, Machine(address, "cpu", num_lanes=1))
        seen["refusal"] = str(refusal.value)
        driver.process.kill()
        driver.process.wait(30)
    seen["after kill"] = states(study)
    seen["status after kill"] = recorded_status(study.store.snapshot())
    seen["started before kill"] = Counter(fits_of(study))
    seen["heard"] = run(study, Machine(address, "cpu", num_lanes=1))
    return seen | {"study": study}


def test_ctrl_c_ends_a_study_that_can_be_taken_up_again(disturbed):
    assert disturbed["exit code"] == 130
    assert disturbed["after interrupt"][TrialState.RUNNING] == 1


def test_a_study_that_was_interrupted_says_so_and_one_that_was_killed_is_told_from_its_records(disturbed):
    status = disturbed["status after interrupt"]
    assert (status.state, status.end) == ("interrupted", "it was interrupted")
    killed = disturbed["status after kill"]
    assert killed.state == "killed" and killed.fits_done >= len(disturbed["before kill"])


def test_a_study_is_worked_on_by_one_process_at_a_time(disturbed):
    assert "is being worked on by another process" in disturbed["refusal"]


def test_no_finished_fit_is_trained_again_after_an_interrupt_or_a_kill(disturbed):
    started = Counter(fits_of(disturbed["study"]))
    for moment in ("interrupt", "kill"):
        for fit_id in disturbed[f"before {moment}"]:
            assert started[fit_id] == disturbed[f"started before {moment}"][fit_id]


def test_a_killed_study_ends_with_every_trial_told_once(disturbed):
    assert disturbed["after kill"][TrialState.RUNNING] == 1
    assert states(disturbed["study"]) == {TrialState.COMPLETE: 6}
    told = disturbed["heard"].of("trial_finished")
    assert len(told) == len(set(told)) > 0


def test_a_disturbed_study_asks_what_an_undisturbed_one_asks(disturbed, finished):
    assert learning_rates(disturbed["study"]) == learning_rates(finished[0])[:6]


def test_sixteen_gpus_are_filled_and_given_back(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", PATHS)
    study = formula_study(tmp_path, num_trials=4)
    node = {"num_cpus": 40, "num_gpus": 16, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        heard = run(study, Machine(cluster.address, "cpu", workers_per_fit=2))
        assert heard.of("started") == [(8,)]
        ray.init(cluster.address)
        deadline = time.monotonic() + 5
        while ray.available_resources().get("GPU") != 16:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert states(study) == {TrialState.COMPLETE: 4}


@pytest.fixture(scope="module")
def scored_twice(address, tmp_path_factory) -> tuple[RunnableStudy, Heard]:
    """Trials that noise makes alike, and finalists that are scored again."""
    study = formula_study(tmp_path_factory.mktemp("home"), num_trials=4).with_options(rescore=2)
    return study, run(study, Machine(address, "cpu", num_lanes=1), noise=0.3)


def test_finalists_that_do_not_differ_significantly_are_re_evaluated_before_one_is_named(scored_twice):
    study, heard = scored_twice
    ((finalists, num_fits),) = heard.of("scoring_again")
    assert num_fits == 2 * NUM_FOLDS == len(set(heard.of("fold_again")))
    ((champion,),) = heard.of("finished")
    again = reevaluation_of(study.store.snapshot(), study.store.ranked())
    assert {one.trial for one in again} == set(finalists) and champion == again[0].trial
    assert study.store.champion().trial == champion
    told = read_status(study.store.status_file)
    assert told.fits_done == (4 + 2) * NUM_FOLDS
    assert (
        told.champion
        == Named(champion, again[0].search, again[0].fresh)
        == recorded_status(study.store.snapshot()).champion
    )


def test_finalists_that_were_re_evaluated_are_not_evaluated_a_third_time(scored_twice):
    study, _ = scored_twice
    before = fits_of(study)
    heard = run(study, Machine(address="nobody:1"), noise=0.3)
    assert fits_of(study) == before and [event[0] for event in heard.told] == ["finished"]


@pytest.fixture(scope="module")
def raced(address, tmp_path_factory) -> tuple[RunnableStudy, Heard]:
    """A race of eight trials over two lanes; large learning rates diverge, and one worker is killed."""
    home = tmp_path_factory.mktemp("home")
    study = formula_study(home, num_trials=8, race="paired")
    heard = run(
        study, Machine(address, "cpu", num_lanes=2), diverges_above=DIVERGES, kill_marker=home / "killed"
    )
    return study, heard


def test_a_race_trains_fewer_fits_and_names_a_champion_with_all_folds(raced):
    study, heard = raced
    trials = study.store.trials()
    assert len(trials) == 8
    assert len(set(fits_of(study))) < 8 * NUM_FOLDS
    assert {trial.state for trial in trials} == {"complete", "stopped", "failed"}
    ((champion,),) = heard.of("finished")
    assert trials[champion].score().metrics["dice"] == max(
        trial.score().metrics["dice"] for trial in trials if trial.score()
    )


def test_every_trial_of_a_race_is_reported_once_with_its_state_and_the_reason(raced):
    study, heard = raced
    assert sorted(heard.of("trial_finished")) == [(t.number, t.state) for t in study.store.trials()]
    assert all(trial.error for trial in study.store.trials() if trial.state == "stopped")
    assert {action for _, action in heard.of("judged")} >= {"go"}


def test_stopped_trials_keep_no_weights(raced):
    study, _ = raced
    stopped = [trial for trial in study.store.trials() if trial.state == "stopped"]
    assert stopped
    assert not any(record.weights.exists() for trial in stopped for record in trial.records)


def test_a_trial_that_diverges_fails_with_its_error_and_the_study_goes_on(raced):
    study, _ = raced
    for trial in study.store.trials():
        assert (trial.params["learning_rate"] > DIVERGES) == (trial.state == "failed")
        if trial.state == "failed":
            assert trial.score() is None and "the loss became nan" in trial.error


def test_a_fit_whose_worker_was_killed_is_trained_again_and_no_other(raced):
    study, _ = raced
    repeated = [fit_id for fit_id, times in Counter(fits_of(study)).items() if times > 1]
    assert len(repeated) == 1
    assert (study.store.home / "killed").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left on device; free space"),
        (errno.EIO, "Input/output error"),  # it is tried three times
    ],
)
def test_a_fault_of_the_machine_stops_a_study_that_ends_well_once_it_is_mended(
    address, tmp_path, number, words
):
    study, fault = formula_study(tmp_path, num_trials=1), tmp_path / "fault"
    fault.write_text(str(number))
    with pytest.raises(MachineFault, match=words) as refusal:
        run(study, Machine(address, "cpu", num_lanes=1), fault=fault)
    assert str(refusal.value).startswith(str(study.store.ledger.running))
    assert states(study) == {TrialState.RUNNING: 1}
    assert read_status(study.store.status_file).state == "failed"
    fault.unlink()
    heard = run(study, Machine(address, "cpu", num_lanes=1), fault=fault)
    assert states(study) == {TrialState.COMPLETE: 1}
    assert heard.of("trial_finished") == [(0, "complete")]


@pytest.mark.parametrize("victim", ["ray::ResourceTrainable", "ray::Dispatcher", "ray::TrainController"])
def test_a_study_survives_the_end_of_any_of_its_processes(address, tmp_path, victim):
    study = formula_study(tmp_path, num_trials=2)
    with Driver(study.store.home, 2) as driver:
        driver.wait_for_fits(study.store, 1)
        for pid in children(driver.process.pid, victim):
            os.kill(pid, signal.SIGKILL)
        assert driver.process.wait(240) == 0
    assert states(study) == {TrialState.COMPLETE: 2}
