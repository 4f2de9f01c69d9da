"""A command as a job of a Ray cluster: uploaded, followed, stopped, found again; as Ray's Jobs API, without its traps.

Tune's loop, the searcher and MLflow's one writer belong beside the lanes, not on a laptop that may close. So nothing of
a study runs here: what goes to the cluster is this package and the files that the command names. A job that is stopped
is interrupted as by Ctrl-C and has `STOP_WAIT_S` for its epochs (Ray's own three seconds would kill it within one).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import requests
from ray.job_submission import JobDetails, JobStatus

import orchestrator
from orchestrator.common.errors import BadMachine, MachineFault
from orchestrator.common.files import size_text
from orchestrator.common.private_api import private
from orchestrator.common.redaction import without_secrets
from orchestrator.launch.job_server import JobServer, understood

POLL_S = 1.0
# Of a connection that broke: how often it is tried again, and for how long.
AGAIN_S, PATIENCE_S = 5.0, 1800.0
STEADY_S = 60.0  # after which a connection that breaks was one, and patience begins anew
LOG_PATIENCE_S = 30.0  # where the job is over: the node that has its log may be gone
HEARTBEAT_S = 20.0  # a laptop that slept finds its connection dead so soon
STOP_WAIT_S = 900
STOP = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
STOPPED = 130
NAMED = "files"  # the folder of a job that holds what its command names
OWN_BYTES = 8 << 20  # of this package, at most
NEVER = datetime.fromtimestamp(0, UTC)
MARK = "orchestrator"  # the key of a job's metadata that says it is ours


@dataclass(frozen=True)
class Submission:
    """What is to run, as everybody who sees the cluster's dashboard may read it."""

    words: tuple[str, ...]  # after `orchestrator`; files that are carried by the names they get there
    files: Mapping[str, Path] = field(default_factory=dict)  # name there -> file or folder here
    label: str = "job"  # a study, or a command: for people
    identity: str = ""  # what must not run twice at a time
    env: Mapping[str, str] = field(default_factory=dict)
    python: str = "python"

    @property
    def key(self) -> str:
        """Sixteen hex digits of what must not run twice."""
        return hashlib.sha256((self.identity or json.dumps(self.words)).encode()).hexdigest()[:16]

    @property
    def entrypoint(self) -> str:
        """The shell's line; `exec`, so that signals and the exit code are the command's own."""
        return f"exec {shlex.join([self.python, '-m', 'orchestrator', *self.words])}"


@dataclass(frozen=True)
class JobRow:
    """A job of ours, as a table shows it."""

    id: str
    study: str
    state: str  # pending, running, succeeded, failed, stopped
    since: datetime | None  # when it was submitted
    until: datetime | None
    exit_code: int | None
    command: str
    key: str | None  # what must not run twice at a time; None of a job that `ray job submit` made

    @property
    def is_over(self) -> bool:
        return self.state not in ("pending", "running")


class Job:
    """A command of ours that runs, or ran, on a cluster."""

    def __init__(self, server: JobServer, id: str) -> None:
        self.server, self.id = server, id
        self.num_written = 0  # characters of the log that were passed on
        self.connected_at: float | None = None

    def follow(
        self, write: Callable[[str], object], note: Callable[[str], object] = lambda line: None
    ) -> int:
        """Pass on the log as it grows, until the job is over; the command's exit code, 130 if the job was stopped.

        Where the connection breaks the job goes on, and so does this as soon as it is back; `note` is told of both.
        Raises `MachineFault` if it does not come back, or if it was Ray that failed, and `BadMachine` if the cluster
        does not know the job any more.
        """
        return _exit_code(self.id, self._followed(write, note))

    def _followed(self, write: Callable[[str], object], note: Callable[[str], object]) -> JobDetails:
        """What Ray knows of it in the end."""
        broken_at: float | None = None
        info = self.info()
        while True:
            before, self.connected_at = self.num_written, None
            try:
                asyncio.run(self._tail(write))
                if (info := self.info()).status.is_terminal():
                    return info
                broken_at = None
                time.sleep(POLL_S)
            except (aiohttp.ClientError, OSError, MachineFault) as error:
                if broken_at is None or self.num_written > before or self._was_steady():
                    broken_at = time.monotonic()
                    why = without_secrets(str(error)) or type(error).__name__
                    note(f"the log of job {self.id} broke off ({why}); it is tried again")
                is_over, seconds = info.status.is_terminal(), time.monotonic() - broken_at
                if is_over and seconds > LOG_PATIENCE_S:
                    note(f"the rest of the log of job {self.id} cannot be read")
                    return info
                if seconds > PATIENCE_S:
                    raise _gone(self.id) from error
                time.sleep(AGAIN_S)
                with suppress(MachineFault):
                    info = self.info()

    def _was_steady(self) -> bool:
        """Whether the connection that broke had lasted, with or without lines of a log."""
        return self.connected_at is not None and time.monotonic() - self.connected_at > STEADY_S

    def stop(self) -> JobStatus:
        """Have the command end after its epochs, and wait until it has; what it finished is kept."""
        while True:
            with understood(self.server.get_address()):
                was_there = self.server.stop_job(self.id)
            # It is not there yet where its supervisor is only being started.
            if was_there or self.info().status.is_terminal():
                return self.wait()
            time.sleep(POLL_S)

    def wait(self) -> JobStatus:
        """Wait until it is over."""
        while not (status := self.info().status).is_terminal():
            time.sleep(POLL_S)
        return status

    def info(self) -> JobDetails:
        """What Ray knows of it. Raises `BadMachine` if that is nothing."""
        with understood(self.server.get_address()):
            answer = self.server._do_request("GET", f"/api/jobs/{self.id}")
            if answer.status_code == requests.codes.not_found:
                raise BadMachine(
                    self.id,
                    "the cluster knows no such job: was its head node started again? The same command, submitted "
                    "again, goes on where it stopped",
                )
            if not answer.ok:
                raise requests.ConnectionError(f"status {answer.status_code}")
            return JobDetails(**answer.json())

    async def _tail(self, write: Callable[[str], object]) -> None:
        """The log from its beginning, without what was written before; until the job is over, if nothing breaks."""
        seen = 0
        address = self.server.get_address()
        async with (
            aiohttp.ClientSession(headers=self.server.headers) as session,
            session.ws_connect(
                f"{address}/api/jobs/{self.id}/logs/tail",
                heartbeat=HEARTBEAT_S,
                # Who leaves a log does not read it to its end: Ray's server goes on writing instead of saying goodbye.
                timeout=aiohttp.ClientWSTimeout(ws_close=0.0),
                proxy=requests.utils.get_environ_proxies(address).get(address.partition(":")[0]),
            ) as log,
        ):
            self.connected_at = time.monotonic()
            async for message in log:
                if message.type is aiohttp.WSMsgType.ERROR:
                    raise aiohttp.ClientConnectionError(str(log.exception()))
                new = message.data[max(0, self.num_written - seen) :]
                seen += len(message.data)
                if new:
                    write(new)
                    self.num_written = seen
            if log.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE:
                raise aiohttp.ClientConnectionError("closed by the other side")


def _gone(id: str) -> MachineFault:
    return MachineFault("--address", f"no answer for {PATIENCE_S / 60:.0f} minutes; job {id} may still run")


def _exit_code(id: str, info: JobDetails) -> int:
    if info.status is JobStatus.STOPPED:
        return STOPPED
    if info.driver_exit_code is None and info.status is JobStatus.FAILED:
        why = [line for line in (info.message or "").strip().splitlines() if line.strip()]
        raise MachineFault(id, f"Ray could not run it: {why[-1].strip() if why else info.error_type}")
    code = info.driver_exit_code or 0
    return code if code >= 0 else 128 - code  # ended by a signal


def submit(server: JobServer, submission: Submission) -> Job:
    """Upload and start it. Raises `BadMachine` if it runs already, or is too large to be uploaded."""
    known = jobs(server)
    for row in known:
        if not row.is_over and row.key == submission.key:
            raise BadMachine(
                submission.label,
                f"is {row.state} already, as job {row.id}, since {clock(row.since)}; `orchestrator submit --attach "
                f"{row.id}` follows it, `--stop {row.id}` ends it",
            )
    refuse_size(submission.files)
    with _packed(submission.files) as folder, understood(server.get_address()):
        id = server.submit_job(
            entrypoint=submission.entrypoint,
            submission_id=_new_id(submission.label, {row.id for row in known}),
            runtime_env={"working_dir": str(folder), "env_vars": {**STOP, **submission.env}},
            metadata={MARK: orchestrator.__version__, "study": submission.label, "key": submission.key},
        )
    return Job(server, id)


def find(server: JobServer, id: str) -> Job:
    """A job of ours by its id. Raises `BadMachine` with those there are if there is none."""
    known = [row.id for row in jobs(server)]
    if id not in known:
        raise BadMachine(
            id, f"no such job of ours on this cluster; there are: {', '.join(known[:10]) or 'none'}"
        )
    return Job(server, id)


def jobs(server: JobServer) -> list[JobRow]:
    """All jobs of ours that the cluster remembers, the last one first."""
    with understood(server.get_address()):
        found = [_row(info) for info in server.list_jobs() if info.submission_id and _is_ours(info)]
    return sorted(found, key=lambda row: row.since or NEVER, reverse=True)


def _is_ours(info: JobDetails) -> bool:
    return MARK in (info.metadata or {}) or "-m orchestrator " in info.entrypoint


def _row(info: JobDetails) -> JobRow:
    told = info.metadata or {}
    return JobRow(
        id=info.submission_id or "",
        study=told.get("study", ""),
        state=str(info.status).lower(),
        since=_moment(info.start_time),
        until=_moment(info.end_time),
        exit_code=info.driver_exit_code,
        command=without_secrets(info.entrypoint.partition("-m orchestrator ")[2]),
        key=told.get("key"),
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def clock(moment: datetime | None) -> str:
    """In the time of this machine, to the second."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}" if moment else ""


def _new_id(label: str, taken: set[str]) -> str:
    """A study and a time, as a name of files and in URLs."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.")[:60] or "job"
    first = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return next(id for id in (first, *(f"{first}-{n}" for n in range(2, 1000))) if id not in taken)


@contextmanager
def _packed(files: Mapping[str, Path]) -> Iterator[Path]:
    """A folder with this package, wherever it is installed, and these files. Raises `BadMachine` if it is too large."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, source in {"orchestrator": Path(orchestrator.__path__[0]), **files}.items():
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        yield folder


def refuse_size(files: Mapping[str, Path]) -> None:
    """Raises `BadMachine` where files are more than Ray takes: before anything is copied."""
    sizes = {path: _size(path) for path in files.values()}
    most = private("GCS_STORAGE_MAX_SIZE")
    if (total := sum(sizes.values())) >= most - OWN_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise BadMachine(
            str(largest),
            f"a job takes {size_text(most)} with it at most, found {size_text(total)} of files that "
            "the command names; lay it where the cluster sees it, and name that path",
        )


def _size(path: Path) -> int:
    return sum(
        file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()
    )
