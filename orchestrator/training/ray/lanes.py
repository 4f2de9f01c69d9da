"""Warm lanes: long-lived Ray Train worker groups through which jobs pass one after another.

A worker group costs seconds to start; a job that finds one waiting costs milliseconds. `Lanes` starts the groups, the
`Dispatcher` actor hands jobs out and carries word back, and a trial talks to the dispatcher alone. What a job *is* does
not matter here: lanes are given a callable that performs it.

A job is stopped by asking it to return at the end of an epoch. A lane whose worker dies is started again by Ray Train
and given back the job it held, which goes on from its checkpoint. Nodes may come and go: `Lanes` looks at the cluster
every few seconds, starts lanes where there is room for more, and has the dispatcher queue again what was running on a
node that is gone.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import ray.train
import torch
from ray.exceptions import RayError
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.common.errors import BadMachine, FitFailed, MachineFault, OutOfMemory, UserError
from orchestrator.common.faults import fault_of, is_loss, lasts, machine_fault
from orchestrator.common.interruption import raise_if_asked, seconds_since
from orchestrator.training import workers
from orchestrator.training.gpu_kernels import refuse_without_kernels
from orchestrator.training.jobs import opened, sealed
from orchestrator.training.memory import cap_memory, killed_for_memory
from orchestrator.training.process import settle
from orchestrator.training.ray import controllers
from orchestrator.training.ray.dispatcher import OVER, Dispatcher, News
from orchestrator.training.ray.lost_resources import free_deserted

logger = logging.getLogger(__name__)
# How often in a row a lane's Train run may give up before it ever asks for work, until the study gives up too.
MAX_LANE_STARTS = 10
# How Train says that the cluster has no room for a lane: it may have later.
NO_ROOM = ("WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError")
# Seconds that Train waits for room before it says so; to close takes no longer.
PLACEMENT_S = 10
# Seconds between two looks at the cluster.
WATCH_S = 3.0
# Seconds that lanes are waited for once the system has asked the search to end: Slurm kills after 30.
DRAIN_S = 10.0
DOCTOR = "`orchestrator doctor` says on which node what is wrong"
# Seconds that lanes without a job have to go home: Train may hang while it brings up a worker, or ends one.
LEAVE_S = 90.0
# Seconds until those that wait for a lane know that it was killed.
KILLED_S = 5.0
# What another try would not change.
CERTAIN = (torch.OutOfMemoryError, MemoryError, FitFailed, UserError)

Report = Callable[[dict[str, float]], bool]
# perform(payload, device, loader_workers, report): True when finished, False when stopped by `report`.
Perform = Callable[[Any, torch.device, int, Report], bool]


@dataclass(frozen=True)
class Shape:
    """How many lanes, how wide, and what each worker holds."""

    num_lanes: int
    workers_per_lane: int
    cpus_per_worker: float
    gpus_per_worker: float
    device: Literal["cpu", "cuda"]

    @property
    def resources_per_worker(self) -> dict[str, float]:
        gpus = {"GPU": self.gpus_per_worker} if self.gpus_per_worker else {}
        return {"CPU": self.cpus_per_worker, **gpus}

    def num_on(self, nodes: list[dict[str, Any]]) -> int:
        """How many such lanes the living nodes could hold, whoever else may be there."""
        return (
            sum(self._workers_on(node["Resources"]) for node in nodes if node["Alive"])
            // self.workers_per_lane
        )

    def _workers_on(self, node: dict[str, float]) -> int:
        cores = node.get("CPU", 0)
        by_cores = int(cores / self.cpus_per_worker)
        if self.gpus_per_worker:
            return min(by_cores, int(node.get("GPU", 0)) * int(1 / self.gpus_per_worker))
        return min(by_cores, int(cores))


class Lanes:
    """Worker groups that are up as long as this context is; `dispatcher` is the handle that trials are given."""

    def __init__(self, perform: Perform, shape: Shape, storage: Path, max_lanes: float | None = None) -> None:
        """`max_lanes`: as many may there be once the cluster has room for them; by default those of the shape."""
        self.shape, self.perform, self.storage = shape, perform, storage
        self.max_lanes = max_lanes or shape.num_lanes
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_concurrency": 10_000, "max_restarts": -1, "max_task_retries": -1}
        self.dispatcher: Any = (
            ray.remote(Dispatcher).options(scheduling_strategy=here, **options).remote()  # type: ignore[call-overload]
        )
        # A Train run name that was used before would resume that run: never the same name twice.
        self.name = f"lane-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self.room = shape.num_lanes  # lanes that the cluster can hold
        self.up: set[int] = set()  # lanes with a Train run
        self.given_up: set[int] = set()  # lanes that could not be started, again and again
        self.turned_away: set[int] = set()  # lanes that found no room when they last tried to start
        self.counted = (0, 0, 0)
        self.broken: str | None = None  # why no lane can be started at all
        self.fault: Exception | None = None  # of the machine, or of the data: no fit is to blame
        self.closing = False
        self.changed = threading.Condition()
        self.threads: list[threading.Thread] = []
        self.watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Lanes:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(PLACEMENT_S))
        self.before = controllers.controllers()  # of others
        self._make_room(self.shape.num_lanes)
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let every lane finish its epoch and go home; a scheduler that will kill us is not kept waiting for that."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        with suppress(RayError):  # it is gone, with its lanes
            self._wait_for_end()
            ray.kill(self.dispatcher)
        self._leave_none()

    def _wait_for_end(self) -> None:
        """Until all lanes have gone home. One that Ray cannot bring up, or down, is left to Ray: it holds no job."""
        idle_since = None
        while (alive := [one for one in (self.watcher, *self.threads) if one.is_alive()]) and (
            seconds_since() < DRAIN_S
        ):
            # Again and again: it may have been killed meanwhile.
            ray.get(self.dispatcher.close.remote(), timeout=60)
            _, num_busy, _ = ray.get(self.dispatcher.count.remote(), timeout=60)
            idle_since = None if num_busy else idle_since or time.monotonic()
            if idle_since is not None and time.monotonic() - idle_since > LEAVE_S:
                num_hanging = sum(one.is_alive() for one in self.threads)
                logger.warning("%d lane(s) hang without a fit, and are left to Ray", num_hanging)
                return
            alive[0].join(1.0)

    def _leave_none(self) -> None:
        """A thread that waits for a Train run while Ray is shut down would end the process, with exit code 1."""
        if any(one.is_alive() for one in self.threads):
            with suppress(RayError):
                controllers.kill(controllers.controllers() - self.before)
            deadline = time.monotonic() + KILLED_S
            for one in self.threads:
                one.join(max(0.0, deadline - time.monotonic()))

    def check_fault(self) -> Exception | None:
        """Ask whether the lanes were halted; an answer stays."""
        with suppress(RayError):
            self.fault = self.fault or ray.get(self.dispatcher.why_halted.remote(), timeout=60)
        return self.fault

    def num_lanes(self) -> int:
        """Lanes that there is room for now; at least one, for work can wait for a node to come."""
        return max(1, self.room)

    def count(self) -> tuple[int, int, int]:
        """Lanes that are up, those with a job, and jobs that wait; as last heard, if there is no answer in time."""
        with suppress(RayError):
            self.counted = ray.get(self.dispatcher.count.remote(), timeout=1.0)
        if self.counted[0]:
            self.turned_away.clear()
        return self.counted

    @property
    def is_crowded(self) -> bool:
        """Whether no lane is up because others hold what the cluster has."""
        return self.room > 0 and self.counted[0] == 0 and bool(self.turned_away)

    def run(
        self, job_id: str, payload: Any, on_row: Callable[[dict[str, float]], None] = lambda row: None
    ) -> None:
        """Pass one job through a lane and wait for it. Raises `FitFailed` if it failed."""

        def tell(job_id: str, news: News) -> None:
            for row in news.rows:
                on_row(row)

        if error := self.run_all({job_id: payload}, tell).get(job_id):
            raise FitFailed(error)

    def run_all(
        self,
        jobs: Mapping[str, Any],
        on_news: Callable[[str, News], None] = lambda job_id, news: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> dict[str, str]:
        """Pass jobs through the lanes, as many at a time as there are lanes, and wait for all.

        Returns those that failed, with their errors. Once `is_over` says so, those in flight stop after their epoch.
        Raises `FitFailed` if no lane can be started, what halted the lanes, and `Interrupted`.
        """
        seen = dict.fromkeys(jobs, 0)
        failed: dict[str, str] = {}
        for job_id, payload in jobs.items():
            ray.get(self.dispatcher.submit.remote(job_id, sealed(payload)))
        while seen and not is_over():
            raise_if_asked()
            if (fault := self.check_fault()) is not None:
                raise fault
            if self.broken is not None:
                raise FitFailed(self.broken)
            told: dict[str, News] = ray.get(self.dispatcher.follow.remote(seen))
            for job_id, news in told.items():
                seen[job_id] += len(news.rows)
                on_news(job_id, news)
                if news.state in OVER:
                    del seen[job_id]
                if news.state == "stopped":  # together with its dispatcher, or by a trial that shared it
                    ray.get(self.dispatcher.submit.remote(job_id, sealed(jobs[job_id])))
                    seen[job_id] = 0
                if news.state == "failed":
                    failed[job_id] = news.error or "unknown"
        for job_id in seen:
            ray.get(self.dispatcher.leave.remote(job_id))
        return failed

    def _watch(self) -> None:
        """Follow the cluster: as many lanes as it has room for, and no job on a node that is gone."""
        while not self._is_closing_within(WATCH_S):
            nodes = ray.nodes()
            gone = [node["NodeID"] for node in nodes if not node["Alive"]]
            try:
                ray.get(self.dispatcher.lose.remote(gone))
            except RayError as error:  # it is just being started again
                logger.info("the lanes are looked at again in a moment: %s", error)
            self.check_fault()
            self._make_room(int(min(self.max_lanes, self.shape.num_on(nodes))))

    def _make_room(self, num_lanes: int) -> None:
        with self.changed:
            self.room = num_lanes
            for lane in range(len(self.threads), num_lanes):
                self.threads.append(threading.Thread(target=self._run, args=(lane,), daemon=True))
                self.threads[lane].start()
            self.changed.notify_all()

    def _run(self, lane: int) -> None:
        """Keep one lane up, where there is room for it, until it is sent home.

        Train starts a worker group again when a worker dies. But its controller gives up if there is no room, or if it
        was just talking to that worker. Then the whole run is started again, under a name of its own.
        """
        failures = 0
        for start in itertools.count():
            if not self._finds_room(lane):
                return
            try:
                if start:
                    free_deserted()
                self._trainer(lane, f"{self.name}-{lane}-{start}").fit()
                return
            except Exception as failure:  # of Train, of a file system, whatever: another start may do
                if self.closing:
                    return
                if lasts(failure):
                    self.fault = self.fault or machine_fault(failure)
                was_up, no_room = self._departs(lane), _is_for_want_of_room(failure)
                failures = 0 if was_up or no_room else failures + 1
                (self.turned_away.add if no_room else self.turned_away.discard)(lane)
                error, fault = traceback.format_exc(), machine_fault(failure)
            finally:
                self._gives_room(lane)
            if failures == MAX_LANE_STARTS:
                self._gives_up(lane, error, fault)
                return
            self._is_closing_within(1.0)

    def _finds_room(self, lane: int) -> bool:
        """Wait for room and take it; False when it is time to go home."""
        with self.changed:
            self.changed.wait_for(lambda: self.closing or len(self.up) < self.room)
            self.up.add(lane)
            return not self.closing

    def _gives_room(self, lane: int) -> None:
        with self.changed:
            self.up.discard(lane)
            self.changed.notify_all()

    def _departs(self, lane: int) -> bool:
        """Say that a lane's Train run has ended; whether the lane was ever up in it."""
        try:
            return ray.get(self.dispatcher.depart.remote(lane))
        except RayError:  # it is just being started again, and knows of no lane
            return False

    def _gives_up(self, lane: int, error: str, fault: Exception | None) -> None:
        """A lane cannot be started; others may still be, on other nodes."""
        logger.warning("lane %d cannot be started, and is given up: %s", lane, error)
        with self.changed:
            self.given_up.add(lane)
            if len(self.given_up) == len(self.threads):
                self.fault = self.fault or fault
                self.broken = f"lane {lane} ended:\n{error}"

    def _is_closing_within(self, seconds: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.closing, seconds)

    def _trainer(self, lane: int, name: str) -> TorchTrainer:
        cuda = self.shape.device == "cuda"
        return TorchTrainer(
            serve,
            train_loop_config={
                "dispatcher": self.dispatcher,
                "lane": lane,
                "perform": self.perform,
                "device": self.shape.device,
                "cpus": self.shape.cpus_per_worker,
                "gpus": self.shape.gpus_per_worker,
            },
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if cuda else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=self.shape.workers_per_lane,
                use_gpu=self.shape.gpus_per_worker > 0,
                resources_per_worker=self.shape.resources_per_worker,
            ),
            run_config=RunConfig(
                name=name,
                storage_path=str(self.storage),
                failure_config=FailureConfig(
                    max_failures=-1,
                    controller_failure_limit=0,  # type: ignore[call-arg]  # of Train's second version
                ),
                callbacks=[_Losses(self.dispatcher, lane)],  # type: ignore[list-item]  # of Train's second version
            ),
        )


def _is_for_want_of_room(failure: Exception) -> bool:
    return isinstance(failure, ControllerError) and type(failure.controller_failure).__name__ in NO_ROOM


class _Losses(UserCallback):
    """In Train's controller: tells the dispatcher of workers that the machine took, or that never get to work."""

    def __init__(self, dispatcher: Any, lane: int) -> None:
        self.dispatcher, self.lane = dispatcher, lane

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        lost = next((error for error in worker_exceptions.values() if is_loss(error)), None)
        if lost is not None:
            fault = machine_fault(lost) or fault_of("this cluster", str(lost), "see why its nodes go")
            ray.get(self.dispatcher.lost.remote(self.lane, fault))
            return
        failure = next(iter(worker_exceptions.values()))
        fault = machine_fault(failure) or fault_of("this cluster", _no_start(failure), DOCTOR)
        if ray.get(self.dispatcher.stumbled.remote(self.lane, fault)):
            raise fault  # else Train would start workers for ever


def _no_start(failure: Exception) -> str:
    lines = str(failure).strip().splitlines() or [type(failure).__name__]
    return f"workers of a lane do not start: {lines[-1].strip()}"


def serve(config: dict[str, Any]) -> None:
    """The life of one lane worker: take a job, perform it with the other ranks, say how it ended."""
    dispatcher, lane, perform = config["dispatcher"], config["lane"], config["perform"]
    cpus = max(1, round(config["cpus"]))
    settle(cpus)
    device = ray.train.torch.get_device() if config["device"] == "cuda" else torch.device("cpu")
    if (fault := refused(device)) is not None:  # no fit is to blame, so none is begun
        ray.get(dispatcher.halt.remote(fault))
        return
    if device.type == "cuda" and config["gpus"] < 1:
        cap_memory(device, int(1 / config["gpus"]))
    nodes = workers.gather(ray.get_runtime_context().get_node_id())
    num_killed = sum(workers.gather(killed_for_memory()))
    first, group = workers.rank() == 0, uuid.uuid4().hex
    while True:
        job = workers.from_first(
            ray.get(dispatcher.take.remote(lane, group, nodes, num_killed)) if first else None
        )
        if job is None:
            return
        if job == "wait":
            continue
        job_id, payload = job[0], opened(job[1])

        def report(row: dict[str, float], job_id: str = job_id) -> bool:
            return workers.from_first(bool(first and ray.get(dispatcher.progress.remote(lane, job_id, row))))

        try:
            finished = perform(payload, device, cpus - 1 if device.type == "cuda" else 0, report)
        except Exception as failure:
            if (reason := _halts(failure)) is not None:
                ray.get(dispatcher.halt.remote(reason))
                if workers.size() > 1:
                    raise
                ray.get(dispatcher.end.remote(lane, job_id, "stopped"))
            elif not _is_known_to_all(failure):
                # Other ranks may be waiting inside a collective: only a new worker group gets out of that.
                _tell_why(dispatcher, lane, job_id, failure)
                raise
            elif first:
                ray.get(dispatcher.end.remote(lane, job_id, "failed", str(failure)))
        else:
            if first:
                ray.get(dispatcher.end.remote(lane, job_id, "finished" if finished else "stopped"))


def refused(device: torch.device) -> MachineFault | None:
    """Why a worker of this lane cannot train on its GPU, if one cannot; the same on every rank."""
    fault = None
    try:
        refuse_without_kernels([device.index or 0] if device.type == "cuda" else [])
    except MachineFault as refusal:
        fault = refusal
    return next((one for one in workers.gather(fault) if one is not None), None)


def _halts(failure: Exception) -> Exception | None:
    """What no other try, and no other fit, would get around: a full disk, or data that is not as it was."""
    if isinstance(failure, UserError) and not isinstance(failure, BadMachine):
        return failure
    return machine_fault(failure) if not isinstance(failure, FitFailed) and lasts(failure) else None


def _is_known_to_all(failure: Exception) -> bool:
    """A fit fails on every rank alike, and the lane goes on; but memory may run out on one of several."""
    return isinstance(failure, FitFailed) and (workers.size() == 1 or not isinstance(failure, OutOfMemory))


def _tell_why(dispatcher: Any, lane: int, job_id: str, failure: Exception) -> None:
    error = str(failure) if isinstance(failure, FitFailed) else _last_line(failure)
    again = isinstance(failure, OutOfMemory) and failure.again
    fault = None if isinstance(failure, FitFailed) else machine_fault(failure)
    if isinstance(failure, CERTAIN) and not again and fault is None:
        ray.get(dispatcher.end.remote(lane, job_id, "failed", error))
    else:
        ray.get(dispatcher.crashed.remote(job_id, error, again, fault))


def _last_line(failure: Exception) -> str:
    return "".join(traceback.format_exception_only(failure)).strip()
