"""When a job of `cluster/slurm.sbatch` is queued again: Slurm is real, Ray and the search are stand-ins."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from shell import wait_until
from slurm.search import OVER, batch_script, programs
from slurm.site import Site, why_not

pytestmark = pytest.mark.slurm
STANDINS = Path(__file__).parent / "slurm" / "standins"


@dataclass(frozen=True)
class Job:
    site: Site
    number: str
    log: Path

    def says(self, words: str, times: int = 1) -> None:
        """Wait until its log does."""
        wait_until(lambda: self.text().count(words) >= times, self.text, 60)

    def becomes(self, *states: str) -> str:
        wait_until(lambda: self.site.state(self.number) in states, self.text, 60)
        return self.site.state(self.number)

    def is_continued(self) -> None:
        """It was queued again, and starts."""
        wait_until(lambda: self.site.shown(self.number, "Restarts") == "1", self.text, 60)
        self.site.release(self.number)

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    if (why := why_not()) is not None:
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="sl") as name, Site(Path(name, "site")) as site:
        yield site


@pytest.fixture
def submit(site: Site, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Submits a search that ends as the words say, one for each start; nothing of it may stay."""
    jobs = []
    venv = programs(tmp_path / "venv", orchestrator=STANDINS / "orchestrator.py", ray=STANDINS / "ray.py")

    def submit(ends: str, **environment: str) -> Job:
        environment = {"PYTHONPATH": str(STANDINS / "lib"), **environment}
        log = tmp_path / "job.log"
        jobs.append(Job(site, site.submit(batch_script(tmp_path, venv), log, ends, **environment), log))
        return jobs[-1]

    yield submit
    for job in jobs:
        site.run("scancel", job.number)
        job.becomes(*OVER)
        wait_until(lambda job=job: not site.processes(job.number), job.text, 60)
        assert list(tmp_path.glob(".slurm*")) == [] and list(Path("/tmp").glob(f"ray-{job.number}.*")) == []


@pytest.mark.parametrize(("code", "state"), [("0", "COMPLETED"), ("1", "FAILED"), ("2", "FAILED")])
def test_a_search_that_is_finished_or_needs_mending_ends_the_job(
    submit: Callable[..., Job], code: str, state: str
):
    job = submit(code)
    assert job.becomes(*OVER) == state
    assert job.site.shown(job.number, "ExitCode") == f"{code}:0"
    assert job.site.shown(job.number, "Restarts") == "0"


def test_a_search_that_was_drained_goes_on_with_the_same_command(submit: Callable[..., Job]):
    job = submit("75,0")
    job.is_continued()
    assert job.becomes(*OVER) == "COMPLETED"
    assert job.text().count("searching 75,0 --address 127.0.0.1:6379") == 2


@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_a_signal_for_the_job_is_passed_on_once(submit: Callable[..., Job], name: str):
    job = submit("wait,0")
    job.says("searching")
    for _ in range(3):
        job.site.run("scancel", "--batch", f"--signal={name}", job.number)
    job.is_continued()
    assert job.becomes(*OVER) == "COMPLETED"
    assert job.text().count(f"heard SIG{name}") == 1


def test_a_preemption_that_leaves_time_is_heard_though_it_ends_ray_first(submit: Callable[..., Job]):
    job = submit("wait,0")
    job.says("searching")
    job.site.run("scancel", "--signal=TERM", job.number)  # steps alone, as Slurm does
    job.is_continued()
    assert job.becomes(*OVER) == "COMPLETED"
    assert job.text().count("heard SIGTERM") == 1


def test_a_job_that_was_cancelled_is_not_queued_again(submit: Callable[..., Job]):
    job = submit("wait,0")
    job.says("searching")
    job.site.run("scancel", job.number)
    assert job.becomes(*OVER, "PENDING") == "CANCELLED"
    assert "heard SIGTERM" in job.text() and "queued again" not in job.text()


@pytest.mark.parametrize("step", ["0", "1"], ids=["head", "workers"])
def test_a_lost_step_of_ray_is_begun_anew_unless_it_was_lost_at_once(submit: Callable[..., Job], step: str):
    job = submit("wait,0", ORCHESTRATOR_SOON_S="0")
    job.says("searching")
    job.site.run("scancel", "--signal=KILL", f"{job.number}.{step}")
    job.is_continued()
    assert job.becomes(*OVER) == "COMPLETED"


def test_what_is_lost_at_once_is_not_begun_anew(submit: Callable[..., Job]):
    job = submit("-9,0")
    assert job.becomes(*OVER) == "FAILED"
    assert "lost after" in job.text() and "exit code 137" in job.text()


def test_a_lost_node_queues_the_job_again(submit: Callable[..., Job]):
    job = submit("wait,0")
    job.says("searching")
    job.site.fail("n2")
    wait_until(lambda: job.site.state(job.number) != "RUNNING", job.text, 60)
    job.site.boot("n2")
    job.is_continued()
    assert job.becomes(*OVER) == "COMPLETED"


def test_ray_that_does_not_start_and_nodes_that_do_not_join_end_the_job_in_words(submit: Callable[..., Job]):
    job = submit("0", STANDIN_RAY="fails")
    assert job.becomes(*OVER) == "FAILED"
    assert "Ray did not start on n1" in job.text() and "no Ray today" in job.text()
    job = submit("0", STANDIN_NODES="1", ORCHESTRATOR_START_S="1")
    assert job.becomes(*OVER) == "FAILED"
    assert "1 of 2 nodes joined within 1 s" in job.text()
