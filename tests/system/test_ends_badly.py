"""Searches as people start them, on machines that are full, small, or about to be taken away."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.trial import TrialState
from shell import ROOT, Shell, command, wait_until

from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.results.mlflow.client import connect
from orchestrator.search.store.study_store import StudyStore

pytestmark = pytest.mark.slow

SPACE = """
network = "unet"
[search]
learning_rate = { log_uniform = [1e-4, 3e-2] }
[fixed]
base_channels = 4
image_size = 32
epochs = EPOCHS
batch_size = 8
[baseline]
learning_rate = 5e-3
"""
KILL_WAIT_S = 30.0  # Slurm's


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A home with a drawn dataset and two search spaces."""
    home = tmp_path_factory.mktemp("home")
    (home / "short.toml").write_text(SPACE.replace("EPOCHS", "2"))
    (home / "long.toml").write_text(SPACE.replace("EPOCHS", "5000"))
    draw_dataset(home / "frames", num_cases=24, size=40, seed=0)
    add_dataset(home, "drawn", home / "frames", groups=home / "frames" / "groups.csv", allow_empty=True)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray:
        shell = Shell(home, Path(ray))
        yield shell
        shell.close()


def search(shell: Shell, space: str, study: str, *more: str) -> list[str]:
    data = [
        "--data",
        "drawn",
        "--splits",
        "k-fold:2",
        "--no-near-duplicates",
        "--trials",
        "2",
        "--race",
        "none",
    ]
    how = ["--rescore", "0", "--device", "cpu", "--study", study]
    return command("search", shell.home / f"{space}.toml", *data, *how, *more)


def ended(shell: Shell, words: list[str], **options: object) -> tuple[int, str]:
    """Run it to its end: the exit code, and all that it printed."""
    environment = shell.environment | options.pop("environment", {})  # type: ignore[operator]
    done = subprocess.run(  # type: ignore[call-overload]
        words,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    return done.returncode, done.stdout


def states(study: StudyStore) -> Counter[TrialState]:
    return Counter(trial.state for trial in study.stored_trials())


def runs(study: StudyStore) -> set[str]:
    """How MLflow says that the runs of a study stand."""
    client = connect(f"sqlite:///{study.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study.name)
    return {run.info.status for run in client.search_runs([experiment.experiment_id])}


@contextmanager
def quota(folder: Path, size: str) -> Iterator[None]:
    """A folder that holds no more than this."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_fails_no_trial_and_once_there_is_room_the_search_ends_well(shell):
    study = StudyStore(shell.home, "full")
    with quota(study.ledger.running, "200k"):
        code, told = ended(shell, search(shell, "short", "full", "--lanes", "1", "--address", "local"))
        assert not list(study.ledger.running.rglob("*.partial"))
    assert code == 2 and "No space left on device; free space" in told, told
    assert "Traceback" not in told and str(study.ledger.running) in told, told
    assert states(study) == {TrialState.RUNNING: 1} and "FAILED" not in runs(study)
    code, told = ended(shell, search(shell, "short", "full", "--lanes", "1", "--address", "local"))
    assert code == 0, told
    assert states(study) == {TrialState.COMPLETE: 2} and runs(study) == {"FINISHED"}


def test_a_long_tmpdir_and_one_core_give_one_lane_and_a_search_that_ends_well(shell):
    with tempfile.TemporaryDirectory(prefix="x" * 50) as long:
        environment = {"TMPDIR": long, "RAY_ADDRESS": "127.0.0.1:1"}
        bare = {name: value for name, value in shell.environment.items() if name != "RAY_TMPDIR"}
        code, told = ended(
            Shell(shell.home, shell.ray),
            ["env", "-u", "RAY_TMPDIR", *search(shell, "short", "bound")],
            environment=bare | environment,
            preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        )
    assert code == 0, told
    assert "1 lane on cpu" in told and "too long for Ray's sockets" in told
    assert "no Ray cluster answers at 127.0.0.1:1 (from RAY_ADDRESS" in told


def drained(shell: Shell, study: str, signum: int, moment: Callable[[str], bool]) -> tuple[int, float, str]:
    """Start a search that takes long, send a signal at that moment; its exit code, seconds until then, its words."""
    words = search(shell, "long", study, "--lanes", "1", "--address", "local")
    with (
        tempfile.NamedTemporaryFile("w+", suffix=".log") as log,
        subprocess.Popen(words, cwd=ROOT, env=shell.environment, stdout=log, stderr=log) as process,
    ):
        wait_until(lambda: moment(Path(log.name).read_text()), lambda: Path(log.name).read_text())
        started = time.monotonic()
        process.send_signal(signum)
        code = process.wait(120)
        return code, time.monotonic() - started, Path(log.name).read_text()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_search_that_a_scheduler_ends_is_drained_within_its_patience_and_says_run_me_again(shell, signum):
    name = signal.Signals(signum).name
    study = StudyStore(shell.home, name)
    code, seconds, told = drained(
        shell, name, signum, lambda _: bool(list(study.ledger.running.glob("*/*.pt")))
    )
    assert code == 75 and seconds < KILL_WAIT_S, told
    assert f"ended by {name}" in told and "Traceback" not in told, told
    assert states(study) == {TrialState.RUNNING: 1} and "RUNNING" not in runs(study)


def test_a_signal_while_ray_starts_ends_the_search_as_at_any_moment(shell):
    before = set(shell.ray.glob("ray-*/r/session_2*/logs"))  # of searches that ended before
    code, seconds, told = drained(
        shell, "early", signal.SIGTERM, lambda _: bool({*shell.ray.glob("ray-*/r/session_2*/logs")} - before)
    )
    assert code == 75 and seconds < KILL_WAIT_S and "Traceback" not in told, told
    wait_until(lambda: not shell.processes(), lambda: f"{shell.processes()} are there", 60)
