"""Warm lanes: long-lived Ray Train worker groups through which jobs pass one after another.

Starting a worker group takes seconds; a job on a running one starts in milliseconds. `Lanes` starts the groups, the
`Dispatcher` actor assigns jobs and forwards updates, and a trial communicates only with the dispatcher. Lanes are given
a callable that performs a job, whatever it is. A job is stopped by letting it return at the end of an epoch. A lane
whose worker dies is restarted by Ray Train and given the same job, which resumes from its checkpoint. Nodes may come
and go: `Lanes` checks the cluster every few seconds, starts lanes where resources allow, and has jobs of lost nodes
queued again.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray.exceptions import RayError
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.common.display import counted
from orchestrator.common.errors import FitFailed
from orchestrator.common.faults import fault_of, is_loss, is_persistent, machine_fault
from orchestrator.common.interruption import raise_if_requested, seconds_since
from orchestrator.common.private_api import private
from orchestrator.training.jobs import serialized
from orchestrator.training.ray import controllers
from orchestrator.training.ray.dispatcher import FINAL_STATES, Dispatcher, JobUpdate
from orchestrator.training.ray.lane_worker import Perform, serve
from orchestrator.training.ray.lost_resources import release_orphaned

logger = logging.getLogger(__name__)
# Consecutive failures of a lane's Train run before it requests a job after which the study gives up.
MAX_LANE_STARTS = 10
# Train's errors for a cluster without free resources for a lane; there may be some later.
NO_RESOURCES = ("WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError")
# Seconds that Train waits for resources before it reports that; closing takes no longer.
PLACEMENT_S = 10
# Seconds between checks of the cluster.
WATCH_S = 3.0
# Seconds to wait for lanes once the system has requested the search to end: Slurm kills after 30.
DRAIN_S = 10.0
DOCTOR = "run `orchestrator doctor` to find the node and the cause"
# Seconds to wait for lanes without a job to close: Train may hang while it starts or ends a worker.
CLOSE_S = 90.0
# Seconds until callers that wait for a killed lane notice.
KILLED_S = 5.0


@dataclass(frozen=True)
class Shape:
    """Number and width of lanes, and resources of each worker."""

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
        """Number of such lanes that fit on the living nodes, regardless of other users."""
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
    """Context in which worker groups are up; `dispatcher` is the handle for trials."""

    def __init__(self, perform: Perform, shape: Shape, storage: Path, max_lanes: float | None = None) -> None:
        """`max_lanes`: most lanes if the cluster grows; by default those of the shape."""
        self.shape, self.perform, self.storage = shape, perform, storage
        self.max_lanes = max_lanes or shape.num_lanes
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_concurrency": 10_000, "max_restarts": -1, "max_task_retries": -1}
        self.dispatcher: Any = (
            ray.remote(Dispatcher).options(scheduling_strategy=here, **options).remote()  # type: ignore[call-overload]
        )
        # A Train run name that was used before would resume that run: names are unique.
        self.name = f"lane-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self.capacity = shape.num_lanes  # lanes that the cluster can hold
        self.up: set[int] = set()  # lanes with a Train run
        self.abandoned: set[int] = set()  # lanes whose starts failed too often
        self.lacking_resources: set[int] = set()  # lanes that lacked resources at their last start
        self.counted = (0, 0, 0)
        self.broken: str | None = None  # why no lane can be started
        self.fault: Exception | None = None  # of the machine, or of the data, not of a fit
        self.closing = False
        self.changed = threading.Condition()
        self.threads: list[threading.Thread] = []
        self.watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Lanes:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(PLACEMENT_S))
        self.before = controllers.controllers()  # of others
        self._set_capacity(self.shape.num_lanes)
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let every lane finish its epoch and close; within DRAIN_S if a scheduler is about to kill the process."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        with suppress(RayError):  # it is gone, with its lanes
            self._wait_for_end()
            ray.kill(self.dispatcher)
        self._leave_none()

    def _wait_for_end(self) -> None:
        """Wait until all lanes have closed. Lanes that Ray cannot start or end are left to Ray: they have no job."""
        idle_since = None
        while (alive := [one for one in (self.watcher, *self.threads) if one.is_alive()]) and (
            seconds_since() < DRAIN_S
        ):
            # Repeatedly: the dispatcher may have been restarted meanwhile.
            ray.get(self.dispatcher.close.remote(), timeout=60)
            _, num_busy, _ = ray.get(self.dispatcher.count.remote(), timeout=60)
            idle_since = None if num_busy else idle_since or time.monotonic()
            if idle_since is not None and time.monotonic() - idle_since > CLOSE_S:
                num_hanging = sum(one.is_alive() for one in self.threads)
                logger.warning("hanging without a fit, and left to Ray: %s", counted(num_hanging, "lane"))
                return
            alive[0].join(1.0)

    def _leave_none(self) -> None:
        """Kill remaining Train runs: a thread waiting for one when Ray shuts down would end the process."""
        if any(one.is_alive() for one in self.threads):
            with suppress(RayError):
                controllers.kill(controllers.controllers() - self.before)
            deadline = time.monotonic() + KILLED_S
            for one in self.threads:
                one.join(max(0.0, deadline - time.monotonic()))

    def check_fault(self) -> Exception | None:
        """The fault that halted the lanes, if any; it is kept once known."""
        with suppress(RayError):
            self.fault = self.fault or ray.get(self.dispatcher.why_halted.remote(), timeout=60)
        return self.fault

    def num_lanes(self) -> int:
        """Number of lanes that the cluster can hold now; at least one, since jobs can wait for a node."""
        return max(1, self.capacity)

    def count(self) -> tuple[int, int, int]:
        """Numbers of lanes that are up, with a job, and of queued jobs; the last known ones without a timely answer."""
        with suppress(RayError):
            self.counted = ray.get(self.dispatcher.count.remote(), timeout=1.0)
        if self.counted[0]:
            self.lacking_resources.clear()
        return self.counted

    @property
    def is_crowded(self) -> bool:
        """Whether no lane is up because others hold the resources of the cluster."""
        return self.capacity > 0 and self.counted[0] == 0 and bool(self.lacking_resources)

    def run(
        self, job_id: str, payload: Any, on_row: Callable[[dict[str, float]], None] = lambda row: None
    ) -> None:
        """Pass one job through a lane and wait for it. Raises `FitFailed` if it failed."""

        def forward(job_id: str, update: JobUpdate) -> None:
            for row in update.rows:
                on_row(row)

        if error := self.run_all({job_id: payload}, forward).get(job_id):
            raise FitFailed(error)

    def run_all(
        self,
        jobs: Mapping[str, Any],
        on_update: Callable[[str, JobUpdate], None] = lambda job_id, update: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> dict[str, str]:
        """Pass jobs through the lanes, as many at a time as there are lanes, and wait for all.

        Returns the errors of failed jobs. Once `is_over` returns True, running jobs stop after their epoch.
        Raises `FitFailed` if no lane can be started, the fault that halted the lanes, and `Interrupted`.
        """
        seen = dict.fromkeys(jobs, 0)
        failed: dict[str, str] = {}
        for job_id, payload in jobs.items():
            ray.get(self.dispatcher.submit.remote(job_id, serialized(payload)))
        while seen and not is_over():
            raise_if_requested()
            if (fault := self.check_fault()) is not None:
                raise fault
            if self.broken is not None:
                raise FitFailed(self.broken)
            updates: dict[str, JobUpdate] = ray.get(self.dispatcher.follow.remote(seen))
            for job_id, update in updates.items():
                seen[job_id] += len(update.rows)
                on_update(job_id, update)
                if update.state in FINAL_STATES:
                    del seen[job_id]
                if update.state == "stopped":  # by a restart of the dispatcher, or by a trial that shared it
                    ray.get(self.dispatcher.submit.remote(job_id, serialized(jobs[job_id])))
                    seen[job_id] = 0
                if update.state == "failed":
                    failed[job_id] = update.error or "unknown"
        for job_id in seen:
            ray.get(self.dispatcher.leave.remote(job_id))
        return failed

    def _watch(self) -> None:
        """Adapt to the cluster: as many lanes as it can hold, and no job on a lost node."""
        while not self._is_closing_within(WATCH_S):
            nodes = ray.nodes()
            gone = [node["NodeID"] for node in nodes if not node["Alive"]]
            try:
                ray.get(self.dispatcher.nodes_lost.remote(gone))
            except RayError as error:  # the dispatcher is being restarted
                logger.info("the lanes could not be checked, and are checked again in a moment: %s", error)
            self.check_fault()
            self._set_capacity(int(min(self.max_lanes, self.shape.num_on(nodes))))

    def _set_capacity(self, num_lanes: int) -> None:
        with self.changed:
            self.capacity = num_lanes
            for lane in range(len(self.threads), num_lanes):
                self.threads.append(threading.Thread(target=self._run, args=(lane,), daemon=True))
                self.threads[lane].start()
            self.changed.notify_all()

    def _run(self, lane: int) -> None:
        """Keep one lane up while the cluster can hold it, until it closes.

        Train restarts a worker group when a worker dies. But its controller fails without resources, or if it was just
        communicating with that worker. Then the whole run is started again under a new name.
        """
        failures = 0
        for start in itertools.count():
            if not self._acquire_place(lane):
                return
            try:
                if start:
                    release_orphaned()
                self._trainer(lane, f"{self.name}-{lane}-{start}").fit()
                return
            except Exception as failure:  # of Train, of a file system, any: another start may succeed
                if self.closing:
                    return
                if is_persistent(failure):
                    self.fault = self.fault or machine_fault(failure)
                was_up, lacks_resources = self._lane_ended(lane), _lacks_resources(failure)
                failures = 0 if was_up or lacks_resources else failures + 1
                (self.lacking_resources.add if lacks_resources else self.lacking_resources.discard)(lane)
                error, fault = traceback.format_exc(), machine_fault(failure)
            finally:
                self._release_place(lane)
            if failures == MAX_LANE_STARTS:
                self._abandon(lane, error, fault)
                return
            self._is_closing_within(1.0)

    def _acquire_place(self, lane: int) -> bool:
        """Wait until the cluster can hold another lane, and count this one; False when closing."""
        with self.changed:
            self.changed.wait_for(lambda: self.closing or len(self.up) < self.capacity)
            self.up.add(lane)
            return not self.closing

    def _release_place(self, lane: int) -> None:
        with self.changed:
            self.up.discard(lane)
            self.changed.notify_all()

    def _lane_ended(self, lane: int) -> bool:
        """Report that a lane's Train run has ended; return whether the lane was up in it."""
        try:
            result: bool = ray.get(self.dispatcher.lane_ended.remote(lane))
            return result
        except RayError:  # it is being restarted, and knows no lane
            return False

    def _abandon(self, lane: int, error: str, fault: Exception | None) -> None:
        """Abandon a lane that cannot be started; others may still run, on other nodes."""
        logger.warning("lane %d cannot be started, and is abandoned: %s", lane, error)
        with self.changed:
            self.abandoned.add(lane)
            if len(self.abandoned) == len(self.threads):
                self.fault = self.fault or fault
                self.broken = f"lane {lane} ended:\n{error}"

    def _is_closing_within(self, seconds: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.closing, seconds)

    def _trainer(self, lane: int, name: str) -> TorchTrainer:
        cuda = self.shape.device == "cuda"
        return _LaneTrainer(
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
                    controller_failure_limit=0,  # type: ignore[call-arg]  # of Train V2
                ),
                callbacks=[_WorkerFailures(self.dispatcher, lane)],  # type: ignore[list-item]  # of Train V2
            ),
        )


class _LaneTrainer(TorchTrainer):
    """A `TorchTrainer` without Ray Data, of which Train would start a process for every lane."""

    def _create_default_callbacks(self) -> list[Any]:
        found = super()._create_default_callbacks()  # type: ignore[misc]  # of Train V2
        return [one for one in found if not isinstance(one, private("DatasetsCallback"))]


def _lacks_resources(failure: Exception) -> bool:
    return isinstance(failure, ControllerError) and type(failure.controller_failure).__name__ in NO_RESOURCES


class _WorkerFailures(UserCallback):
    """Callback in Train's controller that reports lost workers, and workers that never start, to the dispatcher."""

    def __init__(self, dispatcher: Any, lane: int) -> None:
        self.dispatcher, self.lane = dispatcher, lane

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        loss = next((error for error in worker_exceptions.values() if is_loss(error)), None)
        if loss is not None:
            fault = machine_fault(loss) or fault_of("this cluster", str(loss), "find out why its nodes fail")
            ray.get(self.dispatcher.worker_lost.remote(self.lane, fault))
            return
        failure = next(iter(worker_exceptions.values()))
        fault = machine_fault(failure) or fault_of("this cluster", _no_start(failure), DOCTOR)
        if ray.get(self.dispatcher.workers_failed.remote(self.lane, fault)):
            raise fault  # otherwise Train would start workers forever


def _no_start(failure: Exception) -> str:
    lines = str(failure).strip().splitlines() or [type(failure).__name__]
    return f"workers of a lane do not start: {lines[-1].strip()}"
