import logging
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import toy_jobs
from drawn import drawn_cases, drawn_fit
from limited_memory import LimitedMemoryWork
from ray.train.torch import TorchConfig
from toy_jobs import Toy
from volta import OnVolta

from orchestrator.common.errors import FitFailed, MachineFault
from orchestrator.common.private_api import private
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.records.ledger import Ledger
from orchestrator.training.jobs import serialized
from orchestrator.training.ray import controllers
from orchestrator.training.ray import lanes as lane
from orchestrator.training.ray.dispatcher import FINAL_STATES, MAX_STARTS, JobUpdate
from orchestrator.training.ray.lanes import Lanes, Shape

pytestmark = (
    pytest.mark.slow
)  # a search through the command line trains in lanes: tests/system/test_end_to_end.py

TWO_WORKERS = Shape(num_lanes=1, workers_per_lane=2, cpus_per_worker=1, gpus_per_worker=0, device="cpu")
HALF_A_GPU = Shape(num_lanes=2, workers_per_lane=1, cpus_per_worker=1, gpus_per_worker=0.5, device="cpu")
ENDLESS = Toy(epochs=100_000, seconds=0.02)


class Unstartable(Lanes):
    """No lane can be started, or those from a number on."""

    first = 0

    def _trainer(self, lane: int, name: str) -> Any:
        if lane >= self.first:
            raise OSError("no such folder")
        return super()._trainer(lane, name)


class Hanging(Lanes):
    """Lanes that never come up, and whose Train runs never end."""

    started, over = threading.Semaphore(0), threading.Event()

    def _trainer(self, lane: int, name: str) -> Any:
        return SimpleNamespace(fit=self._hang)

    def _hang(self) -> None:
        self.started.release()
        self.over.wait()


class TrainController:
    """One that hangs."""

    def run(self) -> None:
        time.sleep(600)


class Waiting(Lanes):
    """Lanes whose Train runs wait for controllers that hang."""

    def _trainer(self, lane: int, name: str) -> Any:
        controller = ray.remote(TrainController).options(num_cpus=0).remote()
        return SimpleNamespace(fit=lambda: ray.get(controller.run.remote()))


class Holder:
    """Holds what it was given."""


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    support = str(Path(toy_jobs.__file__).parent)
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": support}},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def lanes(tmp_path_factory):
    with Lanes(toy_jobs.perform, TWO_WORKERS, tmp_path_factory.mktemp("train")) as lanes:
        yield lanes


def run(lanes: Lanes, job_id: str, toy: Toy = Toy()) -> list[dict[str, Any]]:  # noqa: B008 - frozen
    """Pass a job through a lane; return its rows."""
    rows: list[dict[str, Any]] = []
    lanes.run(job_id, toy, rows.append)
    return rows


def wait_for(lanes: Lanes, job_id: str, *, over: bool) -> JobUpdate:
    """Follow a job from its start until it is over, or until its first row."""
    while True:
        news = ray.get(lanes.dispatcher.follow.remote({job_id: 0})).get(job_id)
        if news and (news.state in FINAL_STATES) == over:
            return news
        time.sleep(0.05)


def test_all_workers_of_a_lane_share_a_job(lanes):
    assert [(row["epoch"], row["width"]) for row in run(lanes, "shared work")] == [(0, 2.0), (1, 2.0)]


def test_a_lane_has_no_process_of_ray_data(lanes):
    run(lanes, "it is up")
    actors = private("ray_state").actor_table(
        None, ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    )
    names = {actor["ActorClassName"] for actor in actors.values()}
    assert {"TrainController", "RayTrainWorker"} <= names and "DatasetManager" not in names


def test_jobs_pass_through_the_same_warm_workers(lanes):
    assert len({row["pid"] for number in range(3) for row in run(lanes, f"warm {number}")}) == 1


def test_a_fit_that_fails_leaves_its_lane_warm(lanes):
    (before, *_) = run(lanes, "before nan")
    with pytest.raises(FitFailed, match=r"^the loss became nan$"):
        run(lanes, "nan", Toy(trouble="nan"))
    assert run(lanes, "after nan")[0]["pid"] == before["pid"]


def test_a_job_whose_worker_is_killed_goes_on_in_new_workers(lanes, tmp_path):
    (before, *_) = run(lanes, "before kill")
    rows = run(lanes, "kill", Toy(trouble="kill", marker=tmp_path / "killed"))
    assert [row["epoch"] for row in rows] == [0, 1]
    assert rows[0]["pid"] != before["pid"]


def test_a_job_that_crashes_every_time_fails_with_its_error_and_the_lane_goes_on(lanes):
    with pytest.raises(FitFailed, match=f"tried {MAX_STARTS} times; RuntimeError: no space left"):
        run(lanes, "crash", Toy(trouble="crash"))
    assert len(run(lanes, "after crash")) == 2


def test_what_another_try_would_not_change_is_not_tried_again(lanes):
    with pytest.raises(FitFailed, match=r"^.*BadMachine: batch_size: cannot be dealt$"):
        run(lanes, "refused", Toy(trouble="refused"))


def test_a_worker_whose_memory_is_too_small_fails_the_job_in_words_and_its_peer_waits_for_nothing(lanes):
    with pytest.raises(FitFailed, match=r"^one image at a time does not fit$"):
        run(lanes, "too large", Toy(trouble="memory"))
    assert len(run(lanes, "after too large")) == 2


def test_memory_that_runs_out_on_one_of_two_workers_costs_no_fit(tmp_path):
    """Four images a worker do not fit on rank 1: the lane starts again, and the next fit begins with what fits."""
    cases, ledger = drawn_cases(tmp_path), Ledger(tmp_path / "ledger")
    work = LimitedMemoryWork(FitJobRunner(tmp_path, tmp_path / "cache", ledger), largest=2, rank=1)
    specs = [drawn_fit(cases, batch_size=8, epochs=2, seed=seed) for seed in (0, 1)]
    with Lanes(work, TWO_WORKERS, tmp_path / "train") as lanes:
        for spec in specs:
            lanes.run(spec.fit_id, spec)
    assert [ledger.read(spec.fit_id).micro_batch for spec in specs] == [2, 2]


def test_a_job_that_nobody_wants_any_more_stops_after_its_epoch(lanes):
    ray.get(lanes.dispatcher.submit.remote("unwanted", serialized(ENDLESS)))
    wait_for(lanes, "unwanted", over=False)
    ray.get(lanes.dispatcher.leave.remote("unwanted"))
    assert wait_for(lanes, "unwanted", over=True).state == "stopped"


def test_two_trials_that_ask_for_one_job_share_it(lanes):
    toy = Toy(epochs=20, seconds=0.05)
    for follower in ("one", "other"):
        ray.get(lanes.dispatcher.submit.remote("twice", serialized(toy), follower))
    ray.get(lanes.dispatcher.leave.remote("twice", "one"))
    news = wait_for(lanes, "twice", over=True)
    assert (news.state, len(news.rows)) == ("finished", 20)


def test_a_dispatcher_that_is_killed_costs_no_job(lanes):
    """Ray starts it again, empty: the job stops after its epoch and is asked for again."""
    pid = ray.get(lanes.dispatcher.__ray_call__.remote(lambda self: os.getpid()))
    rows: list[dict[str, Any]] = []

    def kill_once(row: dict[str, Any]) -> None:
        if not rows:
            os.kill(pid, signal.SIGKILL)
        rows.append(row)

    lanes.run("orphan", Toy(epochs=30, seconds=0.1), kill_once)
    assert [row["epoch"] for row in rows[-30:]] == list(range(30))
    assert ray.get(lanes.dispatcher.__ray_call__.remote(lambda self: os.getpid())) != pid
    assert ray.get(lanes.dispatcher.count.remote())[0] == 1
    assert len({row["pid"] for row in rows}) == 1  # the same warm workers


@pytest.mark.parametrize("num_good", [0, 1])
def test_who_waits_hears_that_no_lane_can_be_started_but_one_will_do(tmp_path, monkeypatch, num_good: int):
    monkeypatch.setattr(lane, "MAX_LANE_STARTS", 2)
    monkeypatch.setattr(Unstartable, "first", num_good)
    with Unstartable(toy_jobs.perform, HALF_A_GPU, tmp_path) as halves:
        if num_good:
            assert len(run(halves, "job")) == 2 and halves.abandoned == {1}
        else:
            with pytest.raises(FitFailed, match="no such folder"):
                run(halves, "job")


def test_two_lanes_share_a_gpu(tmp_path):
    with Lanes(toy_jobs.perform, HALF_A_GPU, tmp_path) as halves:
        for job_id in ("one", "other"):
            ray.get(halves.dispatcher.submit.remote(job_id, serialized(ENDLESS)))
        for job_id in ("one", "other"):  # neither ever ends
            wait_for(halves, job_id, over=False)
        assert ray.available_resources().get("GPU", 0) == 0


def test_lanes_say_that_others_hold_the_cluster_and_start_once_they_let_go(lanes, tmp_path):
    other = ray.remote(Holder).options(num_cpus=2).remote()
    ray.get(other.__ray_ready__.remote())
    with Lanes(toy_jobs.perform, TWO_WORKERS, tmp_path) as late:
        assert not late.is_crowded  # nobody has asked for room yet
        deadline = time.monotonic() + 90
        while not late.is_crowded:
            late.count()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        ray.kill(other)
        assert len(run(late, "late")) == 2
        late.count()
        assert not late.is_crowded


def test_closing_ends_what_runs_and_gives_everything_back(lanes, tmp_path):
    with Lanes(toy_jobs.perform, TWO_WORKERS, tmp_path) as others:
        ray.get(others.dispatcher.submit.remote("endless", serialized(ENDLESS)))
        wait_for(others, "endless", over=False)
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != 2:  # of four: `lanes` holds the others
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_lane_that_hangs_while_it_starts_does_not_keep_a_search_from_ending(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(lane, "CLOSE_S", 0.1)
    with Hanging(toy_jobs.perform, HALF_A_GPU, tmp_path):
        assert Hanging.started.acquire(timeout=30)  # else there may be nothing that hangs yet
    assert "hanging without a fit, and left to Ray: " in caplog.text
    Hanging.over.set()


def test_no_thread_waits_for_a_lane_that_hangs_when_ray_is_shut_down(tmp_path, monkeypatch):
    monkeypatch.setattr(lane, "CLOSE_S", 0.1)
    with Waiting(toy_jobs.perform, HALF_A_GPU, tmp_path) as lanes:
        pass
    assert [one.is_alive() for one in lanes.threads] == [False, False]
    assert controllers.controllers() == lanes.before


def test_a_gpu_without_code_halts_its_lane_before_a_fit_and_no_fit_is_to_blame(monkeypatch, tmp_path):
    monkeypatch.setattr(lane, "TorchConfig", lambda backend: TorchConfig(backend="gloo"))  # nccl wants a GPU
    on_cpu = replace(HALF_A_GPU, num_lanes=1, gpus_per_worker=0, device="cuda")
    with (
        Lanes(OnVolta(), on_cpu, tmp_path) as lanes,  # type: ignore[arg-type]
        pytest.raises(MachineFault, match=r"sm_70.*pip install 'torch>=2.8,<2.11' torchvision"),
    ):
        lanes.run("fit", Toy())


def test_workers_whose_gpu_does_not_start_end_the_search_and_say_why(monkeypatch, tmp_path):
    monkeypatch.setattr(lane, "TorchConfig", lambda backend: TorchConfig(backend="gloo"))
    whole = replace(HALF_A_GPU, num_lanes=1, gpus_per_worker=1, device="cuda")
    with (
        Lanes(OnVolta(starts=False), whole, tmp_path) as lanes,  # type: ignore[arg-type]
        pytest.raises(MachineFault, match=r"workers of a lane do not start: .*orchestrator doctor"),
    ):
        lanes.run("fit", Toy())
