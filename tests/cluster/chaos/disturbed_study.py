"""One study that is disturbed by a fault: start, wait for a moment, inject, resume, compare its results."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from counted import LOG, epochs_begun, epochs_of_processes
from outcome import leftovers, outcome_of, records
from shell import ROOT, SETTINGS, wait_until

from chaos.comparison import Comparison, differences
from chaos.home import SHORT
from chaos.nodes import MARK, SUPPORT, Nodes, kill, marked, title_of
from orchestrator.search.store.study_store import StudyStore

NUM_TRIALS, NUM_FOLDS = 3, 2
PATIENCE_S = 420.0
WORKER = "ray::RayTrainWorker"
EPOCHS_TO_CONTINUE = 4  # epochs after a strike; those that are to die begin fewer before
INTERRUPTED, FAULT = 75, 2  # exit codes: run again; something outside is to be mended first


@dataclass
class DisturbedStudy:
    """A study in a home of its own, and the processes that work on it."""

    folder: Path
    template: Path  # a home to copy
    rng: random.Random
    seed: int
    epochs: int = SHORT
    nodes: Nodes | None = None  # None: Ray is started by the search, on this machine
    lanes: int = 1
    driver_node: int = 0  # where the search is started; 0: the head
    uri: str | None = None  # of MLflow; None: a file in the home
    storage: str | None = None
    more: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    num_disturbances: int = 0  # each may cost every lane the epoch in flight

    def __post_init__(self) -> None:
        self.stack = ExitStack()  # what is to be ended after it was looked at: servers, mounts
        self.home = self.folder / "home"
        self.began = time.monotonic()
        self.study = StudyStore(self.home, "study")
        (self.folder / LOG).touch()
        self.fill_home()

    def fill_home(self) -> None:
        """Copy what every study begins with, and let it note its epochs elsewhere: the home may break."""
        shutil.copytree(self.template, self.home, dirs_exist_ok=True)
        self.study.ledger.fits.parent.mkdir(parents=True, exist_ok=True)
        (self.study.ledger.fits.parent / LOG).symlink_to(self.folder / LOG)

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self.began:6.1f} s  {text}"
        self.log.append(line)
        print("   ", line, flush=True)

    # --- the search

    @property
    def words(self) -> list[str]:
        """The command of the search, the same every time."""
        address = self.nodes.address if self.nodes is not None else "local"
        data = [
            "--data",
            "near",
            "--splits",
            f"k-fold:{NUM_FOLDS}",
            "--no-near-duplicates",
            "--trials",
            str(NUM_TRIALS),
        ]
        how = ["--race", "none", "--sampler", "random", "--rescore", "0", "--seed", str(self.seed)]
        where = [
            "--lanes",
            str(self.lanes),
            "--address",
            address,
            "--device",
            "cpu",
            "--home",
            str(self.home),
        ]
        storage = ["--storage", self.storage] if self.storage else []
        space = str(self.home / f"{self.epochs}.toml")
        study = ["--study", self.study.name]
        return ["search", space, *data, *how, *where, *storage, *study, *self.more]

    def run(self, words: list[str], log: Path, before: list[str] = ()) -> subprocess.Popen[bytes]:  # type: ignore[assignment]
        """`orchestrator` with counted epochs, on the driver's node if there are nodes."""
        command = [*before, sys.executable, str(SUPPORT / "counted_driver.py"), *words]
        environment = {n: v for n, v in os.environ.items() if not n.startswith(SETTINGS)}
        environment |= {"PYTHONPATH": f"{SUPPORT}:{ROOT}", "RAY_TMPDIR": str(self.folder / "r")}
        environment |= {"ORCHESTRATOR_CLAIMS": str(self.folder / "claims"), MARK: str(self.folder)}
        if self.nodes is not None:
            node = self.nodes.nodes[self.driver_node]
            command = node.inside(*command)
            environment = self.nodes.environment | {MARK: node.name}
        if self.uri is not None:
            environment["MLFLOW_TRACKING_URI"] = self.uri
        environment |= self.environment
        with log.open("ab") as file:
            file.write(b"--- start\n")
            file.flush()
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
            )

    def start(self, before: list[str] = ()) -> subprocess.Popen[bytes]:  # type: ignore[assignment]
        """The search, begun or gone on with."""
        assert self.process is None or self.process.poll() is not None
        self.say("the same command again" if self.codes else "the search is started")
        self.begun, self.seen = time.monotonic(), len(self.begun_epochs())
        self.process = self.run(self.words, self.folder / "search.log", before)
        return self.process

    def end(self, *expected: int, patience_s: float = PATIENCE_S) -> int:
        """Wait until the search ends, with one of these exit codes and without a traceback."""
        assert self.process is not None
        began = time.monotonic()
        self.wait(lambda: self.process.poll() is not None, "the search does not end", patience_s)  # type: ignore[union-attr]
        code = self.process.returncode
        self.codes.append(code)
        self.say(f"the search ended with {code} after {time.monotonic() - began:.0f} s more")
        assert code in expected, f"exit code {code}, expected {expected}: {self.last_output()}"
        if code >= 0:
            assert "Traceback" not in self.last_output(), self.last_output()
        return code

    def last_output(self) -> str:
        """What the last search printed."""
        return (self.folder / "search.log").read_text(errors="replace").rpartition("--- start\n")[2]

    def finish(self) -> None:
        """Let the search come to its end."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        self.end(0)

    # --- what is seen of it

    def wait(self, happened: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        wait_until(happened, lambda: f"{what}; {self.tail()}", patience_s)

    def tail(self) -> str:
        return "\n".join(self.last_output().splitlines()[-30:])

    def begun_epochs(self) -> list[tuple[str, int]]:
        return epochs_begun(self.study.ledger)

    def until_epoch(self, number: int) -> None:
        """Wait until so many epochs were begun, repeats included."""
        self.wait(
            lambda: len(self.begun_epochs()) >= number or self._is_over(), f"there are no {number} epochs"
        )
        assert not self._is_over(), self.tail()

    def until_train(self, share: tuple[float, float] = (0.15, 0.6)) -> None:
        """Wait for a moment within this part of all the epochs."""
        self.until_epoch(round(self.rng.uniform(*share) * NUM_TRIALS * NUM_FOLDS * self.epochs))

    def _is_over(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def in_flight(self) -> set[str]:
        """Fits that were begun and are not on record."""
        return {fit_id for fit_id, _ in self.begun_epochs()} - records(self.study).keys()

    def processes(self, title: str) -> list[int]:
        """Processes of this study by their title, lowest number first."""
        if self.nodes is not None:
            return sorted(pid for node in self.nodes.nodes for pid in node.pids(title))
        return sorted(pid for pid in marked(f"{MARK}={self.folder}") if title in title_of(pid))

    # --- what is done to it

    def disturb(self, text: str, act: Callable[[], Any]) -> None:
        """Do it, and remember when and what was being trained."""
        begun = epochs_of_processes(self.study.ledger)
        self.affected = {fit_id: pid for fit_id, _, pid in begun if fit_id in self.in_flight()}
        self.seen = len(begun)
        self.disturbed_at = time.monotonic()
        act()
        self.num_disturbances += 1
        self.say(text)

    def kill_one(self, title: str) -> None:
        """SIGKILL for one of the processes of that title."""
        self.wait(lambda: bool(self.processes(title)), f"no process is named {title}")
        victim = self.rng.choice(self.processes(title))
        self.disturb(f"SIGKILL of {title} ({victim})", lambda: kill([victim]))

    def recover(self, since: float | None = None, patience_s: float = PATIENCE_S) -> None:
        """Wait until every fit that was in flight goes on, or is on record; note how long that took.

        `since`: when the search was started again, if it was.
        """

        self.wait(
            lambda: self.is_continued() or self._is_over(), "what was in flight does not go on", patience_s
        )
        assert self.is_continued(), self.tail()
        seconds = time.monotonic() - (self.disturbed_at if since is None else since)
        self.seconds["recovered"] = max(self.seconds.get("recovered", 0.0), seconds)
        self.say(f"all that was in flight goes on, {seconds:.0f} s after")

    def is_continued(self) -> bool:
        """Whether what was hurt is trained by others, or by who did all the time and lived on."""
        since, done = epochs_of_processes(self.study.ledger)[self.seen :], records(self.study)
        others = {fit_id for fit_id, _, pid in since if pid != self.affected.get(fit_id)}
        same = Counter(fit_id for fit_id, _, pid in since if pid == self.affected.get(fit_id))
        return all(fit in others or same[fit] >= EPOCHS_TO_CONTINUE or fit in done for fit in self.affected)

    def close(self) -> None:
        """Nothing of it is left running."""
        if self.process is not None and self.process.poll() is None:
            kill([self.process.pid])
        if self.nodes is None:
            kill(marked(f"{MARK}={self.folder}"))
        self.stack.close()

    # --- what came of it

    def compare(self, calm: Mapping[str, Any]) -> Comparison:
        """With what comes of the study when nobody disturbs it."""
        found = differences(self.outcome(), calm, self.begun_epochs(), self.num_disturbances * self.lanes)
        left = [f"half-written: {path}" for path in leftovers(self.study)]
        over = records(self.study)
        left += [
            f"checkpoints of {path.name}, which is finished"
            for path in self.study.ledger.running.glob("*")
            if path.name in over
        ]
        return replace(found, lost=(*found.lost, *left))

    def outcome(self) -> dict[str, Any]:
        """What can be compared."""
        return outcome_of(self.study, self.uri)
