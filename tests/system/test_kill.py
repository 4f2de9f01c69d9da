"""Studies that are killed at random moments: nothing is done twice, nothing half. See support/counted.py."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from counted import epochs_begun
from optuna.trial import TrialState
from outcome import curves_of, leftovers, records, runs_of, trials_of, verdicts_of
from shell import ROOT, Shell, wait_until

from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.results.views.study_scores import board
from orchestrator.search.store.study_store import StudyStore

pytestmark = pytest.mark.slow

SUPPORT = ROOT / "tests" / "support"
SPACE = """
network = "unet"
[search]
base_channels = { int = [4, 8], step = 2 }
learning_rate = { log_uniform = [1e-4, 3e-2] }
[fixed]
image_size = 32
epochs = 6
batch_size = 8
[baseline]
base_channels = 4
learning_rate = 5e-3
"""
NUM_TRIALS = 4
START_S = 12.0  # about as long as a study needs until it trains
AFTER_S = 2.0  # about as long as a kill comes after the epoch that it waits for
SHARE_AT_START = 0.3  # of the kills come before anything is trained
ROUND_S = 900.0


@dataclass
class Kills:
    """A study that is killed again and again; what was seen in between."""

    shell: Shell
    study: StudyStore
    num_lanes: int
    rng: random.Random
    log: Path
    told: list[str] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)  # fit -> when its record was
    started: int = 0
    num_kills: int = 0

    def start(self) -> subprocess.Popen[bytes]:
        """The same command, whatever is left of the last one."""
        data = ["--data", "near", "--unseen", "far", "--trials", str(NUM_TRIALS), "--study", self.study.name]
        how = ["--lanes", str(self.num_lanes), "--address", "local", "--device", "cpu"]
        words = [
            str(SUPPORT / "counted_driver.py"),
            "search",
            str(self.shell.home / "tiny.toml"),
            *data,
            *how,
        ]
        environment = self.shell.environment | {"PYTHONPATH": f"{SUPPORT}:{ROOT}"}
        self.started += 1
        with self.log.open("ab") as log:
            log.write(f"--- start {self.started}\n".encode())
            log.flush()
            return subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def num_begun(self) -> int:
        return len(set(epochs_begun(self.study.ledger)))

    def round(self, kind: str, moment: int) -> None:
        """Start the study and kill it, or a part of it, before it trains or after so many epochs were begun."""
        process, before = self.start(), self.num_begun()
        if self.rng.random() < SHARE_AT_START:
            self.wait(process, lambda: False, self.rng.uniform(0, START_S))
        else:
            self.wait(process, lambda: self.num_begun() > max(before, moment), ROUND_S)
            self.wait(process, lambda: False, self.rng.uniform(0, AFTER_S))
        state = "ended" if process.poll() is not None else f"at {self.num_begun()} epochs"
        self.told.append(f"{kind} {state}")
        with self.log.open("a") as log:
            log.write(f"--- kill {kind} {state}\n")
        self.kill(kind, process)
        self.look()

    def kill(self, kind: str, process: subprocess.Popen[bytes]) -> None:
        if kind == "all":
            victims = self.shell.processes()
        elif kind == "driver":
            victims = [process.pid]
        else:
            found = [pid for pid in self.shell.processes() if kind in name_of(pid)]
            victims = self.rng.sample(found, min(1, len(found)))
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.num_kills += 1
        if kind in ("all", "driver"):
            process.wait(30)
            return
        self.wait(process, lambda: False, self.rng.uniform(0, START_S))  # it goes on, or gives up
        self.num_kills += 1
        process.kill()
        process.wait(30)

    def wait(self, process: subprocess.Popen[bytes], happened: Callable[[], bool], patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while not happened() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)

    def look(self) -> None:
        """Whatever was killed when: the study can be read, and what was on record is as it was."""
        if not self.study.exists():
            return
        board(self.study.snapshot())
        now = records(self.study)
        assert now.items() >= self.written.items(), "a record was written twice"
        self.written = now

    def finish(self) -> str:
        """Let the study come to its end; return what it printed."""
        process = self.start()
        process.wait(ROUND_S)
        said = self.log.read_text()
        assert process.returncode == 0, said
        self.look()
        return said


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A home with two drawn datasets and a search space."""
    home = tmp_path_factory.mktemp("home")
    (home / "tiny.toml").write_text(SPACE)
    for name, num_cases, size, seed in (("near", 30, 48, 0), ("far", 8, 40, 7)):
        frames = home / f"{name}-frames"
        draw_dataset(frames, num_cases=num_cases, size=size, seed=seed)
        add_dataset(home, name, frames, groups=frames / "groups.csv", allow_empty=True)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray:
        shell = Shell(home, Path(ray))
        yield shell
        shell.close()


def new(shell: Shell, name: str, num_lanes: int) -> Kills:
    return Kills(shell, StudyStore(shell.home, name), num_lanes, random.Random(0), shell.home / f"{name}.log")


@pytest.fixture(scope="module")
def calm(shell: Shell) -> Kills:
    """A study that nobody disturbs."""
    kills = new(shell, "calm", num_lanes=1)
    kills.finish()
    return kills


def killed(kills: Kills, kinds: list[str], num_epochs: int) -> Kills:
    """Kill a study so often, over all its life, then let it end."""
    moments = sorted(kills.rng.randrange(num_epochs) for _ in kinds)
    for kind, moment in zip(kinds, moments, strict=True):
        kills.round(kind, moment)
    kills.finish()
    return kills


@pytest.fixture(scope="module")
def disturbed(shell: Shell, calm: Kills) -> Kills:
    """The same study, killed twenty times: all its processes, or the one that searches and writes to MLflow."""
    kills = new(shell, "disturbed", num_lanes=1)
    kinds = kills.rng.choices(["all", "driver"], k=20)
    return killed(kills, kinds, calm.num_begun())


@pytest.fixture(scope="module")
def battered(shell: Shell, calm: Kills) -> Kills:
    """Two lanes; the worker of one dies, or a trial, the dispatcher, Ray itself or the search."""
    kills = new(shell, "battered", num_lanes=2)
    parts = ["ray::RayTrainWorker", "ray::Dispatcher", "ray::ResourceTrainable", "raylet/raylet"]
    kinds = [*parts, "driver", "all"]
    return killed(kills, kinds, calm.num_begun())


@pytest.fixture(params=["disturbed", "battered"])
def survivor(request: pytest.FixtureRequest) -> Kills:
    return request.getfixturevalue(request.param)


def test_every_fit_is_trained_once_but_for_an_epoch_a_kill(survivor: Kills):
    begun = Counter(epochs_begun(survivor.study.ledger))
    repeats = Counter(fit_id for (fit_id, _), times in begun.items() for _ in range(times - 1))
    assert sum(repeats.values()) <= survivor.num_kills * survivor.num_lanes
    trained = Counter(fit_id for fit_id, _ in begun)
    for fit_id in records(survivor.study):
        curves = survivor.study.ledger.read(fit_id).curves
        assert [row["epoch"] for row in curves] == list(range(trained[fit_id]))


def test_every_trial_is_over_and_mlflow_holds_each_run_once(survivor: Kills):
    trials = survivor.study.optuna_study().get_trials(deepcopy=False)
    assert len(trials) == NUM_TRIALS
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    runs = [run[:3] for run in runs_of(survivor.study)]
    assert len(runs) == len(set(runs))
    assert {role: n for role, n in Counter(run[0] for run in runs).items() if role != "fold"} == {
        "study": 1,
        "trial": NUM_TRIALS,
    }
    assert {run[2] for run in runs} - {""} >= records(survivor.study).keys()


def test_nothing_is_left_half_written_and_nobody_is_left_behind(survivor: Kills):
    assert not leftovers(survivor.study)
    assert not [folder.name for folder in survivor.study.ledger.running.glob("*")]
    wait_until(lambda: not survivor.shell.processes(), lambda: f"{survivor.shell.processes()} are there", 30)


def test_a_study_that_was_killed_twenty_times_ends_like_one_that_was_not(disturbed: Kills, calm: Kills):
    assert curves_of(disturbed.study) == curves_of(calm.study)
    assert trials_of(disturbed.study) == trials_of(calm.study)
    assert runs_of(disturbed.study) == runs_of(calm.study)
    assert disturbed.study.champion() == calm.study.champion()
    assert verdicts_of(disturbed.study) == verdicts_of(calm.study)
