"""Warm lanes: long-lived Ray Train worker groups through which jobs pass one after another.

A worker group costs seconds to start; a job that finds one waiting costs milliseconds. `Lanes` starts the groups, the
`Dispatcher` actor hands jobs out and carries word back, and a trial talks to the dispatcher alone. What a job *is* does
not matter here: lanes are given a callable that performs it.

A job is stopped by asking it to return at the end of an epoch. A lane whose worker dies is started again by Ray Train
and given back the job it held, which goes on from its checkpoint.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ray
import ray.train
import torch
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from orchestrator.errors import FitFailed, OutOfMemory, UserError
from orchestrator.training import workers

# A job whose lane died this often is failed: it is the job, not the machine.
MAX_STARTS = 3
# How often a lane's Train run may give up altogether before the study does.
MAX_LANE_STARTS = 10
# What another try would not change.
CERTAIN = (torch.OutOfMemoryError, MemoryError, FitFailed, UserError)
# How long a question to the dispatcher may wait for news before it is asked again.
PATIENCE_S = 5.0

Report = Callable[[dict[str, float]], bool]
# perform(payload, device, loader_workers, report): True when finished, False when stopped by `report`.
Perform = Callable[[Any, torch.device, int, Report], bool]
State = Literal["queued", "running", "finished", "stopped", "failed"]
OVER: tuple[State, ...] = ("finished", "stopped", "failed")


@dataclass
class Job:
    """One job as the dispatcher sees it."""

    payload: Any
    state: State = "queued"
    lane: int | None = None
    starts: int = 0
    excused: bool = False  # its next start does not count: it will be another try than the last
    rows: list[dict[str, float]] = field(default_factory=list)
    error: str | None = None
    wanted_by: int = 1  # trials that follow it: it is stopped when nobody does


@dataclass(frozen=True)
class News:
    """What happened to a job since it was last asked for."""

    state: State
    rows: tuple[dict[str, float], ...]
    error: str | None


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


class Dispatcher:
    """The queue between trials and lanes: an actor whose every answer is short or a bounded wait."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.queue: deque[str] = deque()
        self.closing = False
        self.lanes: dict[int, float] = {}  # lane -> when it was last heard of
        self.broken: str | None = None
        self.changed = asyncio.Condition()

    async def submit(self, job_id: str, payload: Any) -> None:
        """Queue a job. One that is already queued or running is shared, not repeated."""
        async with self.changed:
            job = self.jobs.get(job_id)
            if job is not None and job.state not in OVER:
                job.wanted_by += 1
                return
            self.jobs[job_id] = Job(payload)
            self.queue.append(job_id)
            self.changed.notify_all()

    async def follow(self, num_seen: dict[str, int]) -> dict[str, News]:
        """Wait a few seconds at most for news of these jobs: rows beyond those seen, or an end. May be empty."""

        def news() -> dict[str, News]:
            jobs = {job_id: self.jobs[job_id] for job_id in num_seen}
            if self.broken is not None:
                return {
                    job_id: News("failed", (), self.broken)
                    for job_id, job in jobs.items()
                    if job.state not in OVER
                }
            return {
                job_id: News(job.state, tuple(job.rows[num_seen[job_id] :]), job.error)
                for job_id, job in jobs.items()
                if len(job.rows) > num_seen[job_id] or job.state in OVER
            }

        await self._wait(lambda: bool(news()))
        return news()

    async def leave(self, job_id: str) -> None:
        """Say that one trial does not need a job any more."""
        async with self.changed:
            job = self.jobs.get(job_id)
            if job is None or job.state in OVER:
                return
            job.wanted_by -= 1
            if job.wanted_by <= 0 and job.state == "queued":
                self.queue.remove(job_id)
                job.state = "stopped"
                self.changed.notify_all()

    async def take(self, lane: int) -> tuple[str, Any] | Literal["wait"] | None:
        """Hand a lane its next job, "wait" if there is none yet, None when it may go home."""
        async with self.changed:
            self.lanes[lane] = time.monotonic()
            for job_id, job in self.jobs.items():
                if job.lane == lane and job.state == "running":  # the lane died holding it
                    if job.excused or job.starts < MAX_STARTS:
                        job.starts += not job.excused
                        job.excused = False
                        return job_id, job.payload
                    self._end(
                        job, "failed", f"tried {MAX_STARTS} times; {job.error or 'its worker was killed'}"
                    )
        await self._wait(lambda: bool(self.queue) or self.closing)
        async with self.changed:
            if self.closing:
                return None
            if not self.queue:
                return "wait"
            job_id = self.queue.popleft()
            job = self.jobs[job_id]
            job.state, job.lane, job.starts = "running", lane, 1
            return job_id, job.payload

    async def progress(self, job_id: str, row: dict[str, float]) -> bool:
        """Take one epoch's row; say whether to go on."""
        async with self.changed:
            job = self.jobs[job_id]
            job.rows.append(row)
            self.changed.notify_all()
            return job.wanted_by > 0 and not self.closing

    async def end(self, job_id: str, state: State, error: str | None = None) -> None:
        async with self.changed:
            self._end(self.jobs[job_id], state, error)

    async def crashed(self, job_id: str, error: str, excused: bool = False) -> None:
        """Note why a worker gave up. The lane starts again and is given the job back: a peer may have been killed."""
        job = self.jobs[job_id]
        job.error, job.excused = error, job.excused or excused

    async def close(self) -> None:
        async with self.changed:
            self.closing = True
            self.changed.notify_all()

    async def break_off(self, error: str) -> None:
        """A lane cannot be started at all: nothing that is waited for will come."""
        async with self.changed:
            self.broken = error
            self.changed.notify_all()

    async def num_ready(self) -> int:
        """Lanes that have asked for work."""
        return len(self.lanes)

    def _end(self, job: Job, state: State, error: str | None) -> None:
        job.state, job.error = state, error
        self.changed.notify_all()

    async def _wait(self, news: Callable[[], bool]) -> None:
        async with self.changed:
            try:
                await asyncio.wait_for(self.changed.wait_for(news), PATIENCE_S)
            except TimeoutError:
                return


class Lanes:
    """Worker groups that are up as long as this context is; `dispatcher` is the handle that trials are given."""

    def __init__(self, perform: Perform, shape: Shape, storage: Path) -> None:
        self.shape = shape
        self.dispatcher: Any = ray.remote(Dispatcher).options(num_cpus=0, max_concurrency=10_000).remote()
        # A Train run name that was used before would resume that run: never the same name twice.
        start = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self.threads = [
            threading.Thread(
                target=self._run, args=(lane, f"lane-{start}-{lane}", perform, storage), daemon=True
            )
            for lane in range(shape.num_lanes)
        ]

    def __enter__(self) -> Lanes:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let every lane finish its epoch and go home."""
        ray.get(self.dispatcher.close.remote())
        for thread in self.threads:
            thread.join()
        ray.kill(self.dispatcher)

    def run(
        self, job_id: str, payload: Any, on_row: Callable[[dict[str, float]], None] = lambda row: None
    ) -> None:
        """Pass one job through a lane and wait for it. Raises `FitFailed` if it failed."""
        ray.get(self.dispatcher.submit.remote(job_id, payload))
        seen = 0
        while True:
            told: dict[str, News] = ray.get(self.dispatcher.follow.remote({job_id: seen}))
            for news in told.values():
                for row in news.rows:
                    on_row(row)
                seen += len(news.rows)
                if news.state == "failed":
                    raise FitFailed(news.error)
                if news.state in OVER:
                    return

    def _run(self, lane: int, name: str, perform: Perform, storage: Path) -> None:
        """Keep one lane up until it is sent home.

        Train starts a worker group again when a worker dies; but if its controller was just talking to that worker,
        the controller itself gives up. Then the whole run is started again, under a name of its own.
        """
        for start in range(MAX_LANE_STARTS):
            try:
                self._trainer(lane, f"{name}-{start}", perform, storage).fit()
                return
            except ControllerError:
                error = traceback.format_exc()
            except Exception:  # this thread has no caller: what went wrong is told to those who wait for jobs
                error = traceback.format_exc()
                break
        ray.get(self.dispatcher.break_off.remote(f"lane {lane} ended:\n{error}"))

    def _trainer(self, lane: int, name: str, perform: Perform, storage: Path) -> TorchTrainer:
        cuda = self.shape.device == "cuda"
        return TorchTrainer(
            serve,
            train_loop_config={
                "dispatcher": self.dispatcher,
                "lane": lane,
                "perform": perform,
                "device": self.shape.device,
                "cpus": self.shape.cpus_per_worker,
            },
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if cuda else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=self.shape.workers_per_lane,
                use_gpu=self.shape.gpus_per_worker > 0,
                resources_per_worker=self.shape.resources_per_worker,
            ),
            run_config=RunConfig(
                name=name, storage_path=str(storage), failure_config=FailureConfig(max_failures=-1)
            ),
        )


def serve(config: dict[str, Any]) -> None:
    """The life of one lane worker: take a job, perform it with the other ranks, say how it ended."""
    dispatcher, lane, perform = config["dispatcher"], config["lane"], config["perform"]
    cpus = max(1, round(config["cpus"]))
    torch.set_num_threads(cpus)
    device = ray.train.torch.get_device() if config["device"] == "cuda" else torch.device("cpu")
    while True:
        first = workers.rank() == 0
        job = workers.from_first(ray.get(dispatcher.take.remote(lane)) if first else None)
        if job is None:
            return
        if job == "wait":
            continue
        job_id, payload = job

        def report(row: dict[str, float], job_id: str = job_id, first: bool = first) -> bool:
            return workers.from_first(bool(first and ray.get(dispatcher.progress.remote(job_id, row))))

        try:
            finished = perform(payload, device, cpus - 1 if device.type == "cuda" else 0, report)
        except Exception as failure:
            if not _is_known_to_all(failure):
                # Other ranks may be waiting inside a collective: only a new worker group gets out of that.
                _tell_why(dispatcher, job_id, failure)
                raise
            if first:
                ray.get(dispatcher.end.remote(job_id, "failed", str(failure)))
        else:
            if first:
                ray.get(dispatcher.end.remote(job_id, "finished" if finished else "stopped"))


def _is_known_to_all(failure: Exception) -> bool:
    """A fit fails on every rank alike, and the lane goes on; but memory may run out on one of several."""
    return isinstance(failure, FitFailed) and (workers.size() == 1 or not isinstance(failure, OutOfMemory))


def _tell_why(dispatcher: Any, job_id: str, failure: Exception) -> None:
    error = str(failure) if isinstance(failure, FitFailed) else _last_line(failure)
    again = isinstance(failure, OutOfMemory) and failure.again
    if isinstance(failure, CERTAIN) and not again:
        ray.get(dispatcher.end.remote(job_id, "failed", error))
    else:
        ray.get(dispatcher.crashed.remote(job_id, error, again))


def _last_line(failure: Exception) -> str:
    return "".join(traceback.format_exception_only(failure)).strip()
