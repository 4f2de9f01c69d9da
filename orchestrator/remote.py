"""A search asked for through a Ray client: the same command, run as a Ray job on the head node.

Tune's loop, the searcher and MLflow's one writer belong beside the lanes, not on a laptop that may close. So nothing of
a study runs on the client's side: it uploads this package and the files that the command names, and follows the log.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ray.job_submission import JobStatus, JobSubmissionClient

import models
import orchestrator
from orchestrator.errors import BadMachine
from orchestrator.hosts import why_silent

POLL_SECONDS = 1.0


class Job:
    """A command of ours that runs on a cluster."""

    def __init__(self, client: JobSubmissionClient, id: str) -> None:
        self.client, self.id = client, id

    def follow(self, write: Callable[[str], object]) -> int:
        """Pass on the log as it grows, until the job is over.

        Returns the command's exit code, 130 if it was stopped. Should the connection break, the job goes on.
        """
        asyncio.run(self._tail(write))
        status = self._wait()
        if status is JobStatus.STOPPED:
            return 130
        code = self.client.get_job_info(self.id).driver_exit_code
        return int(status is not JobStatus.SUCCEEDED) if code is None else code

    def stop(self) -> None:
        """End the command and wait until it has ended; what it finished is kept."""
        self.client.stop_job(self.id)
        self._wait()

    def _wait(self) -> JobStatus:
        while not (status := self.client.get_job_status(self.id)).is_terminal():
            time.sleep(POLL_SECONDS)
        return status

    async def _tail(self, write: Callable[[str], object]) -> None:
        async for text in self.client.tail_job_logs(self.id):
            write(text)


def submit(address: str, words: Sequence[str], files: Iterable[Path]) -> Job:
    """Run `python -m orchestrator WORDS` on the cluster behind `ray://host:port`, in a folder that holds `files`.

    Raises `BadMachine` if no cluster answers there or its job server is out of reach.
    """
    if (silence := why_silent(address.removeprefix("ray://"))) is not None:
        raise BadMachine("--address", f"no Ray cluster takes jobs at {address}: {silence}")
    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        raise BadMachine(
            "--address",
            f"no Ray cluster takes jobs at {address} (needed: its client port, and a job server that is reachable "
            f"from here, `ray start --dashboard-host 0.0.0.0`): {str(error).strip().splitlines()[-1]}",
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        for package in (orchestrator, models):
            source = Path(package.__path__[0])
            shutil.copytree(source, Path(folder, source.name), ignore=shutil.ignore_patterns("__pycache__"))
        for file in files:
            shutil.copy(file, folder)
        command = shlex.join(["python", "-m", "orchestrator", *words])
        return Job(client, client.submit_job(entrypoint=command, runtime_env={"working_dir": folder}))
