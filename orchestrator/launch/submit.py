"""Commands as jobs of a Ray cluster, by Ray's Jobs API: uploaded, followed, stopped, found again.

Tune's loop, the searcher and MLflow's single writer should run near the lanes, not on a laptop that may sleep. So
nothing of a study runs here: this package and the files that the command names are uploaded. A stopped job is
interrupted as by Ctrl-C and has `STOP_WAIT_S` to finish its epochs (Ray's default of three seconds would kill it).
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
from orchestrator.common.errors import BadMachine, MachineFault, python_errors_of
from orchestrator.common.files import size_text
from orchestrator.common.private_api import member, private
from orchestrator.common.redaction import without_secrets
from orchestrator.launch.job_server import JobServer, translated_errors

POLL_S = 1.0
# Retries of a broken connection: interval and total time, seconds.
AGAIN_S, PATIENCE_S = 5.0, 1800.0
STEADY_S = 60.0  # duration after which a connection counts as established, and the retry time restarts
LOG_PATIENCE_S = 30.0  # after the end of the job: the node with its log may be gone
HEARTBEAT_S = 20.0  # within which a dead connection is detected, as after a laptop's sleep
STOP_WAIT_S = 900
STOP = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
STOPPED = 130
NAMED = "files"  # the folder of a job for files that its command names
OWN_BYTES = 8 << 20  # upper bound for this package
NEVER = datetime.fromtimestamp(0, UTC)
MARK = "orchestrator"  # key in the metadata of our jobs


@dataclass(frozen=True)
class Submission:
    """A job to run; visible to everybody with access to the cluster's dashboard."""

    words: tuple[str, ...]  # after `orchestrator`; uploaded files by their names there
    files: Mapping[str, Path] = field(default_factory=dict)  # name there -> file or folder here
    label: str = "job"  # a study or a command, for people
    identity: str = ""  # jobs with equal identity must not run at the same time
    env: Mapping[str, str] = field(default_factory=dict)
    python: str = "python"

    @property
    def key(self) -> str:
        """Sixteen hex digits of a hash of the identity."""
        return hashlib.sha256((self.identity or json.dumps(self.words)).encode()).hexdigest()[:16]

    @property
    def entrypoint(self) -> str:
        """The shell command; `exec`, so that signals and the exit code are the command's own."""
        return f"exec {shlex.join([self.python, '-m', 'orchestrator', *self.words])}"


@dataclass(frozen=True)
class JobRow:
    """A row in the table of our jobs."""

    id: str
    study: str
    state: str  # pending, running, succeeded, failed, stopped
    since: datetime | None  # when it was submitted
    until: datetime | None
    exit_code: int | None
    command: str
    key: str | None  # `Submission.key`; None for a job from `ray job submit`

    @property
    def is_over(self) -> bool:
        return self.state not in ("pending", "running")


@python_errors_of
class ClusterJob:
    """A command of ours that runs, or ran, on a cluster."""

    def __init__(self, server: JobServer, id: str) -> None:
        self.server, self.id = server, id
        self.num_written = 0  # characters of the log written so far
        self.connected_at: float | None = None

    def follow(
        self, write: Callable[[str], object], note: Callable[[str], object] = lambda line: None
    ) -> int:
        """Write the log as it grows, until the job is over; return its exit code, 130 for a stopped job.

        If the connection breaks the job continues, and so does this once it is back; `note` gets a line for both.
        Raises `MachineFault` if it does not come back, or if Ray itself failed, and `BadMachine` if the cluster does
        not know the job any more.
        """
        return _exit_code(self.id, self._followed(write, note))

    def _followed(self, write: Callable[[str], object], note: Callable[[str], object]) -> JobDetails:
        """Final state of the job according to Ray."""
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
                    note(f"the log of job {self.id} broke off ({why}); trying again")
                is_over, seconds = info.status.is_terminal(), time.monotonic() - broken_at
                if is_over and seconds > LOG_PATIENCE_S:
                    note(f"the rest of the log of job {self.id} cannot be read")
                    return info
                if seconds > PATIENCE_S:
                    raise _lost_connection(self.id) from error
                time.sleep(AGAIN_S)
                with suppress(MachineFault):
                    info = self.info()

    def _was_steady(self) -> bool:
        """Whether the broken connection had lasted for some time, with or without lines of a log."""
        return self.connected_at is not None and time.monotonic() - self.connected_at > STEADY_S

    def stop(self) -> JobStatus:
        """Let the command end after its epochs, and wait for the end; finished results are kept."""
        while True:
            with translated_errors(self.server.get_address()):
                was_there = self.server.stop_job(self.id)
            # A job whose supervisor is only starting cannot be stopped yet.
            if was_there or self.info().status.is_terminal():
                return self.wait()
            time.sleep(POLL_S)

    def wait(self) -> JobStatus:
        """Wait until the job is over."""
        while not (status := self.info().status).is_terminal():
            time.sleep(POLL_S)
        return status

    def info(self) -> JobDetails:
        """State of the job according to Ray. Raises `BadMachine` for an unknown job."""
        with translated_errors(self.server.get_address()):
            answer = member(self.server, "_do_request")("GET", f"/api/jobs/{self.id}")
            if answer.status_code == requests.codes.not_found:
                raise BadMachine(
                    self.id,
                    "the cluster does not know this job: was its head node restarted? The same command, submitted "
                    "again, continues where it stopped",
                )
            if not answer.ok:
                raise requests.ConnectionError(f"status {answer.status_code}")
            return JobDetails(**answer.json())

    async def _tail(self, write: Callable[[str], object]) -> None:
        """Write the log from its beginning, without the part written before, until the job is over."""
        seen = 0
        address = self.server.get_address()
        async with (
            aiohttp.ClientSession(headers=self.server.headers) as session,
            session.ws_connect(
                f"{address}/api/jobs/{self.id}/logs/tail",
                heartbeat=HEARTBEAT_S,
                # Ray's server does not answer a close request while it writes a log.
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


def _lost_connection(id: str) -> MachineFault:
    return MachineFault("--address", f"no answer for {PATIENCE_S / 60:.0f} minutes; job {id} may still run")


def _exit_code(id: str, info: JobDetails) -> int:
    if info.status is JobStatus.STOPPED:
        return STOPPED
    if info.driver_exit_code is None and info.status is JobStatus.FAILED:
        why = [line for line in (info.message or "").strip().splitlines() if line.strip()]
        raise MachineFault(id, f"Ray could not run it: {why[-1].strip() if why else info.error_type}")
    code = info.driver_exit_code or 0
    return code if code >= 0 else 128 - code  # ended by a signal


def submit(server: JobServer, submission: Submission) -> ClusterJob:
    """Upload and start a job. Raises `BadMachine` if it already runs, or is too large to upload."""
    known = jobs(server)
    for row in known:
        if not row.is_over and row.key == submission.key:
            raise BadMachine(
                submission.label,
                f"is {row.state} already, as job {row.id}, since {clock(row.since)}; `orchestrator submit --attach "
                f"{row.id}` follows it, `--stop {row.id}` ends it",
            )
    refuse_size(submission.files)
    with _packed(submission.files) as folder, translated_errors(server.get_address()):
        id = server.submit_job(
            entrypoint=submission.entrypoint,
            submission_id=_new_id(submission.label, {row.id for row in known}),
            runtime_env={"working_dir": str(folder), "env_vars": {**STOP, **submission.env}},
            metadata={MARK: orchestrator.__version__, "study": submission.label, "key": submission.key},
        )
    return ClusterJob(server, id)


def find(server: JobServer, id: str) -> ClusterJob:
    """A job of ours by its id. Raises `BadMachine` with the known ids for an unknown one."""
    known = [row.id for row in jobs(server)]
    if id not in known:
        raise BadMachine(
            id, f"no such job of ours on this cluster; there are: {', '.join(known[:10]) or 'none'}"
        )
    return ClusterJob(server, id)


def jobs(server: JobServer) -> list[JobRow]:
    """All jobs of ours that the cluster knows, newest first."""
    with translated_errors(server.get_address()):
        found = [_row(info) for info in server.list_jobs() if info.submission_id and _is_ours(info)]
    return sorted(found, key=lambda row: row.since or NEVER, reverse=True)


def _is_ours(info: JobDetails) -> bool:
    return MARK in (info.metadata or {}) or "-m orchestrator " in info.entrypoint


def _row(info: JobDetails) -> JobRow:
    details = info.metadata or {}
    return JobRow(
        id=info.submission_id or "",
        study=details.get("study", ""),
        state=str(info.status).lower(),
        since=_moment(info.start_time),
        until=_moment(info.end_time),
        exit_code=info.driver_exit_code,
        command=without_secrets(info.entrypoint.partition("-m orchestrator ")[2]),
        key=details.get("key"),
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def clock(moment: datetime | None) -> str:
    """A time in this machine's time zone, to the second."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}" if moment else ""


def _new_id(label: str, taken: set[str]) -> str:
    """Unused id of a job: its label and the time, valid in file names and URLs."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.")[:60] or "job"
    first = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return next(id for id in (first, *(f"{first}-{n}" for n in range(2, 1000))) if id not in taken)


@contextmanager
def _packed(files: Mapping[str, Path]) -> Iterator[Path]:
    """A temporary folder with this package, wherever it is installed, and these files."""
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
    """Raise `BadMachine` if files exceed Ray's limit, before anything is copied."""
    sizes = {path: _size(path) for path in files.values()}
    most = private("GCS_STORAGE_MAX_SIZE")
    if (total := sum(sizes.values())) >= most - OWN_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise BadMachine(
            str(largest),
            f"a job can upload at most {size_text(most)}, found {size_text(total)} of files that "
            "the command names; copy it to a path that the cluster can read, and name that path",
        )


def _size(path: Path) -> int:
    return sum(
        file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()
    )
