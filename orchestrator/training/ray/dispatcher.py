"""The queue between trials and lanes: assigns jobs to lanes and records results. An actor that does not import Ray.

A dispatcher stays on the node of the driver. If its process is killed, Ray restarts it without jobs: trials submit
them again, and lanes continue with those that they run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.common.faults import fault_of

# A job whose lane died this often has failed: it is the cause, not the machine.
MAX_STARTS = 3
# Workers per lane that may be lost to the machine without an epoch in between before the search stops.
MAX_LOSSES = 6
# Consecutive failures of a lane's workers before they request a job after which the search stops.
MAX_WORKER_FAILURES = 5
# Longest wait for updates within one call, seconds.
PATIENCE_S = 5.0

OUT_OF_MEMORY = fault_of(
    "this cluster",
    "its systems kill processes, because memory runs out",
    "end other programs, or use fewer --lanes",
)

State = Literal["queued", "running", "finished", "stopped", "failed"]
FINAL_STATES: tuple[State, ...] = ("finished", "stopped", "failed")


@dataclass
class JobState:
    """State of one job."""

    payload: bytes
    state: State = "queued"
    lane: int | None = None
    starts: int = 0
    is_uncounted: bool = (
        False  # whether its next start does not count, since the last failure was not its fault
    )
    rows: list[dict[str, float]] = field(default_factory=list)
    error: str | None = None
    fault: Exception | None = None  # the machine's, if that ended its last start
    followers: set[str] = field(default_factory=set)  # trials that follow it: without any it is stopped


@dataclass(frozen=True)
class WorkerGroup:
    """The current workers of a lane; each start has new ones."""

    name: str
    nodes: frozenset[str]
    num_killed: int = 0  # processes killed on its nodes for lack of memory since boot


@dataclass(frozen=True)
class JobUpdate:
    """Changes of a job since they were last requested."""

    state: State
    rows: tuple[dict[str, float], ...]
    error: str | None


class Dispatcher:
    """The queue between trials and lanes: an actor in which every call is short or a bounded wait."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobState] = {}
        self.queue: deque[str] = deque()
        self.closing = False
        self.fault: Exception | None = None  # why queued jobs are not started any more
        self.num_losses = 0  # workers lost to the machine since the last epoch
        # lane -> failures of its workers since they last requested a job
        self.num_failures: dict[int, int] = {}
        self.lanes: dict[int, WorkerGroup] = {}  # lanes that are up
        self.changed = asyncio.Condition()

    async def submit(self, job_id: str, payload: bytes, follower: str = "") -> None:
        """Queue a job. A job that is already queued or running is shared, not repeated."""
        async with self.changed:
            job = self.jobs.get(job_id)
            if job is not None and job.state not in FINAL_STATES:
                job.followers.add(follower)
                return
            self.jobs[job_id] = JobState(payload, followers={follower})
            self.queue.append(job_id)
            self.changed.notify_all()

    async def follow(self, num_seen: dict[str, int]) -> dict[str, JobUpdate]:
        """Return updates of these jobs (rows beyond those seen, or an end), waiting some seconds at most. May be empty.

        A job that this dispatcher does not know counts as stopped: its dispatcher was restarted.
        """

        def updates() -> dict[str, JobUpdate]:
            jobs = {job_id: self.jobs.get(job_id, JobState(b"", "stopped")) for job_id in num_seen}
            return {
                job_id: JobUpdate(job.state, tuple(job.rows[num_seen[job_id] :]), job.error)
                for job_id, job in jobs.items()
                if len(job.rows) > num_seen[job_id] or job.state in FINAL_STATES
            }

        await self._wait(lambda: bool(updates()))
        return updates()

    async def leave(self, job_id: str, follower: str = "") -> None:
        """Remove a trial from the followers of a job."""
        async with self.changed:
            job = self.jobs.get(job_id)
            if job is None or job.state in FINAL_STATES:
                return
            job.followers.discard(follower)
            if not job.followers and job.state == "queued":
                self.queue.remove(job_id)
                job.state = "stopped"
                self.changed.notify_all()

    async def lane_ended(self, lane: int) -> bool:
        """Remove a lane whose Train run has ended, and queue its job again. Return whether the lane was up."""
        async with self.changed:
            was_up = self.lanes.pop(lane, None) is not None
            self._queue_again(lane)
        return was_up

    async def nodes_lost(self, nodes: Iterable[str]) -> None:
        """Remove the lanes on these lost nodes, and queue their jobs again, before all others."""
        async with self.changed:
            for lane in [lane for lane, group in self.lanes.items() if group.nodes & set(nodes)]:
                del self.lanes[lane]
                self._queue_again(lane, is_uncounted=True)

    async def take(
        self, lane: int, group: str = "", nodes: Iterable[str] = (), num_killed: int = 0
    ) -> tuple[str, bytes] | Literal["wait"] | None:
        """Return a lane's next job, "wait" if there is none yet, None if the lane must close.

        A lane is up as soon as its group of workers calls this, from these nodes. If more processes were killed on them
        for lack of memory than when the lane's last group began, the machine is to blame for the end of that group.
        """
        caller, before = WorkerGroup(group, frozenset(nodes), num_killed), self.lanes.get(lane)
        if before is not None and before.name != group and num_killed > before.num_killed:
            await self.worker_lost(lane, OUT_OF_MEMORY)
        self.lanes[lane] = caller
        self.num_failures.pop(lane, None)
        async with self.changed:
            self._queue_again(lane)  # its last group died with it
            if self._has_work and not self.closing:
                return self._start(self.queue.popleft(), lane)
        await self._wait(lambda: self._has_work or self.closing)
        async with self.changed:
            if self.closing:
                return None
            if not self._has_work or self.lanes.get(lane) != caller:  # the caller may be dead by now
                return "wait"
            return self._start(self.queue.popleft(), lane)

    async def progress(self, lane: int, job_id: str, row: dict[str, float]) -> bool:
        """Add the row of an epoch; return whether to continue. A lane that was considered lost does not own its job."""
        async with self.changed:
            job = self.jobs.get(job_id)
            if job is not None and job.state == "queued" and not job.starts:
                self.queue.remove(job_id)  # started by a dispatcher that was killed since
                self._start(job_id, lane)
            if job is None or job.lane != lane:
                return False
            job.rows.append(row)
            self.num_losses = 0
            self.changed.notify_all()
            return bool(job.followers) and not self.closing and self.fault is None

    async def end(self, lane: int, job_id: str, state: State, error: str | None = None) -> None:
        async with self.changed:
            if job_id in self.jobs and self.jobs[job_id].lane == lane:
                self._end(self.jobs[job_id], state, error)

    async def job_crashed(
        self, job_id: str, error: str, is_uncounted: bool = False, fault: Exception | None = None
    ) -> None:
        """Record why a worker failed. The lane restarts and gets the job again: a peer may have been killed.

        `fault`: the machine's, which never counts as the job's failure; if it persists, the search stops.
        """
        if (job := self.jobs.get(job_id)) is not None:
            job.error, job.is_uncounted, job.fault = error, job.is_uncounted or is_uncounted, fault

    async def halt(self, fault: Exception) -> None:
        """Start no more jobs, and stop running ones after their epoch: the machine is at fault."""
        async with self.changed:
            self.fault = self.fault or fault
            self.changed.notify_all()

    async def worker_lost(self, lane: int, fault: Exception) -> None:
        """Record a worker of this lane lost to the machine. Its job restarts, uncounted, unless losses never end."""
        async with self.changed:
            self.num_losses += 1
            for job in self.jobs.values():
                if job.lane == lane and job.state == "running":
                    job.is_uncounted = True
            if self.num_losses >= MAX_LOSSES * max(1, len(self.lanes)):
                self.fault = self.fault or fault
            self.changed.notify_all()

    async def workers_failed(self, lane: int, fault: Exception) -> bool:
        """Record a failure of a lane's workers; return whether to give up. No job is to blame if none was requested."""
        async with self.changed:
            self.num_failures[lane] = self.num_failures.get(lane, 0) + 1
            if self.num_failures[lane] > MAX_WORKER_FAILURES:
                self.fault = self.fault or fault
                self.changed.notify_all()
        return self.fault is not None or self.closing

    async def why_halted(self) -> Exception | None:
        """The machine's fault for which no more jobs are started, if there is one."""
        return self.fault

    async def close(self) -> None:
        async with self.changed:
            self.closing = True
            self.changed.notify_all()

    async def count(self) -> tuple[int, int, int]:
        """Numbers of lanes that are up, of those with a job, and of queued jobs."""
        busy = {job.lane for job in self.jobs.values() if job.state == "running"}
        return len(self.lanes), len(busy & self.lanes.keys()), len(self.queue)

    @property
    def _has_work(self) -> bool:
        return bool(self.queue) and self.fault is None

    def _start(self, job_id: str, lane: int) -> tuple[str, bytes]:
        job = self.jobs[job_id]
        job.state, job.lane, job.starts, job.is_uncounted = (
            "running",
            lane,
            job.starts + (not job.is_uncounted),
            False,
        )
        return job_id, job.payload

    def _queue_again(self, lane: int, is_uncounted: bool = False) -> None:
        """Queue the jobs of this lane before all others, or fail those that were started too often."""
        for job_id, job in self.jobs.items():
            if job.lane != lane or job.state != "running":
                continue
            job.is_uncounted = job.is_uncounted or is_uncounted
            if not job.followers:
                job.state = "stopped"
            elif job.is_uncounted or job.starts < MAX_STARTS:
                job.state, job.lane = "queued", None
                self.queue.appendleft(job_id)
            elif job.fault is not None:
                job.state, self.fault = "stopped", self.fault or job.fault
            else:
                job.state = "failed"
                job.error = f"tried {MAX_STARTS} times; {job.error or 'its worker was killed each time'}"
        self.changed.notify_all()

    def _end(self, job: JobState, state: State, error: str | None) -> None:
        job.state, job.error = state, error
        self.changed.notify_all()

    async def _wait(self, is_reached: Callable[[], bool]) -> None:
        async with self.changed:
            try:
                await asyncio.wait_for(self.changed.wait_for(is_reached), PATIENCE_S)
            except TimeoutError:
                return
