"""The queue between trials and lanes: who is given which job, and what becomes of it. An actor that knows no Ray.

A dispatcher stays on the node of the driver. Should its process be killed, Ray starts it again, empty: jobs are asked
for again, and lanes go on with those that they hold.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.common.faults import fault_of

# A job whose lane died this often is failed: it is the job, not the machine.
MAX_STARTS = 3
# How often, for each lane, the machine may take workers away without an epoch in between, until the search stops.
MAX_LOSSES = 6
# How often in a row the workers of a lane may fail before they ask for a job, until the search stops.
MAX_STUMBLES = 5
# How long a question to the dispatcher may wait for news before it is asked again.
PATIENCE_S = 5.0

OUT_OF_MEMORY = fault_of(
    "this cluster",
    "its systems kill processes, for memory runs out",
    "end other programs, or use fewer --lanes",
)

State = Literal["queued", "running", "finished", "stopped", "failed"]
OVER: tuple[State, ...] = ("finished", "stopped", "failed")


@dataclass
class Job:
    """One job as the dispatcher sees it."""

    payload: bytes
    state: State = "queued"
    lane: int | None = None
    starts: int = 0
    excused: bool = False  # its next start does not count: it will be another try than the last
    rows: list[dict[str, float]] = field(default_factory=list)
    error: str | None = None
    fault: Exception | None = None  # the machine's, if that is why its last start failed
    wanted_by: set[str] = field(default_factory=set)  # who follows it: it is stopped when nobody does


@dataclass(frozen=True)
class Group:
    """The workers that a lane has now: another one after each start."""

    name: str
    nodes: frozenset[str]
    num_killed: int = 0  # processes that the systems of its nodes have killed for want of memory, ever


@dataclass(frozen=True)
class News:
    """What happened to a job since it was last asked for."""

    state: State
    rows: tuple[dict[str, float], ...]
    error: str | None


class Dispatcher:
    """The queue between trials and lanes: an actor whose every answer is short or a bounded wait."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.queue: deque[str] = deque()
        self.closing = False
        self.fault: Exception | None = None  # why no job is handed out any more, though there are some
        self.num_losses = 0  # workers that the machine took since the last epoch
        self.stumbles: dict[
            int, int
        ] = {}  # lane -> how often its workers failed since they last asked for a job
        self.lanes: dict[int, Group] = {}  # lanes that are up
        self.changed = asyncio.Condition()

    async def submit(self, job_id: str, payload: bytes, who: str = "") -> None:
        """Queue a job. One that is already queued or running is shared, not repeated."""
        async with self.changed:
            job = self.jobs.get(job_id)
            if job is not None and job.state not in OVER:
                job.wanted_by.add(who)
                return
            self.jobs[job_id] = Job(payload, wanted_by={who})
            self.queue.append(job_id)
            self.changed.notify_all()

    async def follow(self, num_seen: dict[str, int]) -> dict[str, News]:
        """Wait a few seconds at most for news of these jobs: rows beyond those seen, or an end. May be empty.

        A job that nobody asked this dispatcher for was stopped together with the one before.
        """

        def news() -> dict[str, News]:
            jobs = {job_id: self.jobs.get(job_id, Job(b"", "stopped")) for job_id in num_seen}
            return {
                job_id: News(job.state, tuple(job.rows[num_seen[job_id] :]), job.error)
                for job_id, job in jobs.items()
                if len(job.rows) > num_seen[job_id] or job.state in OVER
            }

        await self._wait(lambda: bool(news()))
        return news()

    async def leave(self, job_id: str, who: str = "") -> None:
        """Say that somebody does not need a job any more."""
        async with self.changed:
            job = self.jobs.get(job_id)
            if job is None or job.state in OVER:
                return
            job.wanted_by.discard(who)
            if not job.wanted_by and job.state == "queued":
                self.queue.remove(job_id)
                job.state = "stopped"
                self.changed.notify_all()

    async def depart(self, lane: int) -> bool:
        """A lane's Train run has ended: others may have what it held. Say whether the lane was ever up in it."""
        async with self.changed:
            was_up = self.lanes.pop(lane, None) is not None
            self._queue_again(lane)
        return was_up

    async def lose(self, nodes: Iterable[str]) -> None:
        """These nodes are gone: queue again, before all others, what the lanes on them held."""
        async with self.changed:
            for lane in [lane for lane, group in self.lanes.items() if group.nodes & set(nodes)]:
                del self.lanes[lane]
                self._queue_again(lane, excused=True)

    async def take(
        self, lane: int, group: str = "", nodes: Iterable[str] = (), num_killed: int = 0
    ) -> tuple[str, bytes] | Literal["wait"] | None:
        """Hand a lane its next job, "wait" if there is none yet, None when it may go home.

        A lane is up as soon as its group of workers asks, from these nodes. If their systems have killed more
        processes for want of memory than when its last group began, the machine is to blame for the end of that.
        """
        asks, before = Group(group, frozenset(nodes), num_killed), self.lanes.get(lane)
        if before is not None and before.name != group and num_killed > before.num_killed:
            await self.lost(lane, OUT_OF_MEMORY)
        self.lanes[lane] = asks
        self.stumbles.pop(lane, None)
        async with self.changed:
            self._queue_again(lane)  # its last group died holding it
            if self._has_work and not self.closing:
                return self._start(self.queue.popleft(), lane)
        await self._wait(lambda: self._has_work or self.closing)
        async with self.changed:
            if self.closing:
                return None
            if not self._has_work or self.lanes.get(lane) != asks:  # who asked may be dead by now
                return "wait"
            return self._start(self.queue.popleft(), lane)

    async def progress(self, lane: int, job_id: str, row: dict[str, float]) -> bool:
        """Take one epoch's row; say whether to go on. A lane that was taken for lost holds its job no more."""
        async with self.changed:
            job = self.jobs.get(job_id)
            if job is not None and job.state == "queued" and not job.starts:
                self.queue.remove(job_id)  # handed out by a dispatcher that was killed since
                self._start(job_id, lane)
            if job is None or job.lane != lane:
                return False
            job.rows.append(row)
            self.num_losses = 0
            self.changed.notify_all()
            return bool(job.wanted_by) and not self.closing and self.fault is None

    async def end(self, lane: int, job_id: str, state: State, error: str | None = None) -> None:
        async with self.changed:
            if job_id in self.jobs and self.jobs[job_id].lane == lane:
                self._end(self.jobs[job_id], state, error)

    async def crashed(
        self, job_id: str, error: str, excused: bool = False, fault: Exception | None = None
    ) -> None:
        """Note why a worker gave up. The lane starts again and is given the job back: a peer may have been killed.

        `fault`: the machine's, which is never the job's failure: should it last, the search stops.
        """
        if (job := self.jobs.get(job_id)) is not None:
            job.error, job.excused, job.fault = error, job.excused or excused, fault

    async def halt(self, fault: Exception) -> None:
        """Hand out no more jobs, and let those in flight stop after their epoch: the machine does not work."""
        async with self.changed:
            self.fault = self.fault or fault
            self.changed.notify_all()

    async def lost(self, lane: int, fault: Exception) -> None:
        """The machine took a worker of this lane. What it held is started again, uncounted, unless that never ends."""
        async with self.changed:
            self.num_losses += 1
            for job in self.jobs.values():
                if job.lane == lane and job.state == "running":
                    job.excused = True
            if self.num_losses >= MAX_LOSSES * max(1, len(self.lanes)):
                self.fault = self.fault or fault
            self.changed.notify_all()

    async def stumbled(self, lane: int, fault: Exception) -> bool:
        """The workers of a lane failed: say whether to give up. No job is to blame where they never ask for one."""
        async with self.changed:
            self.stumbles[lane] = self.stumbles.get(lane, 0) + 1
            if self.stumbles[lane] > MAX_STUMBLES:
                self.fault = self.fault or fault
                self.changed.notify_all()
        return self.fault is not None or self.closing

    async def why_halted(self) -> Exception | None:
        """The machine's fault that ended the handing out of jobs, if there is one."""
        return self.fault

    async def close(self) -> None:
        async with self.changed:
            self.closing = True
            self.changed.notify_all()

    async def num_ready(self) -> int:
        """Lanes that are up."""
        return len(self.lanes)

    async def count(self) -> tuple[int, int, int]:
        """Lanes that are up, those of them with a job, and jobs that wait for one."""
        busy = {job.lane for job in self.jobs.values() if job.state == "running"}
        return len(self.lanes), len(busy & self.lanes.keys()), len(self.queue)

    @property
    def _has_work(self) -> bool:
        return bool(self.queue) and self.fault is None

    def _start(self, job_id: str, lane: int) -> tuple[str, bytes]:
        job = self.jobs[job_id]
        job.state, job.lane, job.starts, job.excused = "running", lane, job.starts + (not job.excused), False
        return job_id, job.payload

    def _queue_again(self, lane: int, excused: bool = False) -> None:
        """Put what this lane held before all others, or fail it where that happened too often."""
        for job_id, job in self.jobs.items():
            if job.lane != lane or job.state != "running":
                continue
            job.excused = job.excused or excused
            if not job.wanted_by:
                job.state = "stopped"
            elif job.excused or job.starts < MAX_STARTS:
                job.state, job.lane = "queued", None
                self.queue.appendleft(job_id)
            elif job.fault is not None:
                job.state, self.fault = "stopped", self.fault or job.fault
            else:
                job.state = "failed"
                job.error = f"tried {MAX_STARTS} times; {job.error or 'its worker was killed each time'}"
        self.changed.notify_all()

    def _end(self, job: Job, state: State, error: str | None) -> None:
        job.state, job.error = state, error
        self.changed.notify_all()

    async def _wait(self, news: Callable[[], bool]) -> None:
        async with self.changed:
            try:
                await asyncio.wait_for(self.changed.wait_for(news), PATIENCE_S)
            except TimeoutError:
                return
