"""A search as a job: submitted once, interrupted in every way that a cluster knows, and what that cost."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chaos.disturbed_study import NUM_FOLDS, NUM_TRIALS
from chaos.home import SPACE
from counted import epochs_begun
from outcome import outcome_of, records
from shell import ROOT, wait_until

from orchestrator.launch.render import render, write
from orchestrator.results.views.study_scores import board
from orchestrator.search.store.study_store import StudyStore
from slurm.site import NODES, Site

SUPPORT = ROOT / "tests" / "support"
EPOCHS, EPOCH_S = 16, 1.5  # of a fit; seconds at least
PATIENCE_S = 900.0
START_S = 30.0  # less than a job needs until it trains
SHARE_AT_START = 0.2  # of the interruptions come before anything is trained
MOMENTS = 0.6  # all come within this part of the epochs, though some take a minute to come
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")


def programs(folder: Path, **scripts: Path) -> Path:
    """A folder like a virtual environment's, in which these programs of Python stand in for others."""
    python = Path(sys.executable)
    commands = {"python3": str(python), "ray": str(python.with_name("ray"))}
    commands |= {name: f"{python} {script}" for name, script in scripts.items()}
    (folder / "bin").mkdir(parents=True)
    for name, command in commands.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    return folder


def batch_script(home: Path, venv: Path) -> Path:
    """As it is rendered for two nodes of this machine."""
    values = {"nodes": 2, "gpus": 1, "cpus": 1, "memory_gb": 1, "hours": 1.0}
    script = home / "slurm.sbatch"
    write(script, render("slurm", {**values, "home": str(home), "venv": str(venv)}))
    return script


@dataclass(frozen=True)
class Interruption:
    """What was done to a job, and what it cost."""

    kind: str
    epoch: int  # so many were begun before
    end_s: float  # until its nodes were free
    resume_s: float | None  # from its next start to the next epoch; None: interrupted before
    num_begun: int  # epochs when it was started again, repeats included

    def __str__(self) -> str:
        return f"{self.kind:10} after {self.epoch} epochs: ended within {self.end_s:.0f} s"


@dataclass
class Search:
    """One study, searched by `cluster/slurm.sbatch` with two lanes, one a node."""

    site: Site
    folder: Path
    home: Path
    name: str
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    lanes: int = 2
    job: str = ""
    started: float = 0.0  # by time.monotonic()
    table: list[Interruption] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)  # fit -> when its record was

    def __post_init__(self) -> None:
        self.study = StudyStore(self.home, self.name)
        self.log = self.folder / f"{self.name}.log"

    def submit(self) -> None:
        venv = programs(self.home / "venv", orchestrator=SUPPORT / "counted_driver.py")
        space = self.home / "tiny.toml"
        space.write_text(SPACE.replace("EPOCHS", str(EPOCHS)))
        script = batch_script(self.home, venv)
        data = [
            "--data",
            "near",
            "--splits",
            f"k-fold:{NUM_FOLDS}",
            "--no-near-duplicates",
            "--trials",
            str(NUM_TRIALS),
        ]
        how = ["--race", "none", "--sampler", "random", "--rescore", "2", "--device", "cpu"]
        self.job = self.site.submit(
            script,
            self.log,
            str(space),
            *data,
            *how,
            "--study",
            self.name,
            PYTHONPATH=f"{SUPPORT}:{ROOT}",
            COUNTED_EPOCH_S=str(EPOCH_S),
            ORCHESTRATOR_SOON_S="0",
            ORCHESTRATOR_START_S="600",
        )

    def finish(self) -> None:
        """Let the job come to its end."""
        wait_until(lambda: self.state() in OVER, self.tail, PATIENCE_S)
        assert self.state() == "COMPLETED", self.tail()
        self.look()

    def interrupt(self, kind: str, moment: int | None) -> None:
        """Hurt it once it has begun so many epochs and one since its last start, or (None) before it trains."""
        if moment is None:
            time.sleep(self.rng.uniform(0, START_S))
        else:
            self.resume()
            before = self.num_done()
            self.wait(lambda: self.num_done() > max(before, moment), "it does not train")
            time.sleep(self.rng.uniform(0, EPOCH_S))
        self.look()
        epoch, num_starts, asked = self.num_done(), self.num_starts(), time.monotonic()
        KINDS[kind](self)
        self.wait(lambda: self.num_starts() > num_starts, f"{kind}: it is not queued again")
        for node in NODES:
            self.site.boot(node)
        self.site.release(self.job)
        ended = time.monotonic()
        self.wait(lambda: self.state() == "RUNNING", "it does not start again")
        self.started = time.monotonic()
        self.table.append(Interruption(kind, epoch, ended - asked, None, len(self.begun_epochs())))
        print(self.table[-1], flush=True)

    def resume(self) -> None:
        """Wait until it trains again, and note how long that took; or until it ends, with nothing left to train."""
        if self.table:
            last = self.table[-1]
            wait_until(
                lambda: len(self.begun_epochs()) > last.num_begun or self.state() in OVER,
                self.tail,
                PATIENCE_S,
            )
            if len(self.begun_epochs()) == last.num_begun:
                return
            self.table[-1] = replace(last, resume_s=time.monotonic() - self.started)
            print(f"{'':10} it trains again after {self.table[-1].resume_s:.0f} s", flush=True)

    def num_lost(self) -> list[int]:
        """For each interruption: epochs that were begun before it, and again before the next."""
        begun = self.begun_epochs()
        starts = [one.num_begun for one in self.table]
        ends = [*starts[1:], len(begun)][: len(starts)]
        return [len({*begun[:start]} & {*begun[start:end]}) for start, end in zip(starts, ends, strict=True)]

    def num_done(self) -> int:
        return len(set(self.begun_epochs()))

    def look(self) -> None:
        """Whatever happens when: the study can be read, and what was on record is as it was."""
        if self.study.exists():
            board(self.study.snapshot())
            now = records(self.study)
            assert now.items() >= self.written.items(), "a record was written twice"
            self.written = now

    def state(self) -> str:
        return self.site.state(self.job)

    def num_starts(self) -> int:
        return int(self.site.shown(self.job, "Restarts"))

    def step(self, number: int) -> str:
        """One of the two that run Ray: the head's or the workers', of this start."""
        found = self.site.run("squeue", "--steps", "-h", "-j", self.job, "-o", "%i").split()
        return sorted(step for step in found if not step.endswith((".batch", ".extern")))[number]

    def begun_epochs(self) -> list[tuple[str, int]]:
        return epochs_begun(self.study.ledger)

    def outcome(self) -> dict[str, Any]:
        return outcome_of(self.study)

    def wait(self, happened: Callable[[], bool], what: str) -> None:
        wait_until(lambda: happened() or self.state() in OVER, lambda: f"{what}; {self.tail()}", PATIENCE_S)
        assert happened(), f"{what}; {self.tail()}"

    def tail(self) -> str:
        text = self.log.read_text() if self.log.exists() else ""
        return "\n".join([f"job {self.job} is {self.state()}", *text.splitlines()[-30:], self.site.log()])


def requeue(search: Search) -> None:
    """An administrator takes the nodes: Slurm sends SIGTERM, and SIGKILL after 30 seconds."""
    search.site.run("scontrol", "requeue", search.job)


def time_limit(search: Search) -> None:
    """Its time is nearly over: Slurm sends USR1 to the batch script."""
    minutes = search.site.shown(search.job, "RunTime").split(":")[-2]
    search.site.run("scontrol", "update", f"JobId={search.job}", f"TimeLimit={int(minutes) + 3}")
    search.wait(lambda: search.state() != "RUNNING", "USR1 does not end it")
    search.site.run("scontrol", "update", f"JobId={search.job}", "TimeLimit=60")


def terminate(search: Search) -> None:
    """A preemption that warns by SIGTERM, or somebody at a keyboard."""
    search.site.run("scancel", "--batch", "--signal=TERM", search.job)


def kill_step(search: Search) -> None:
    """A step of Ray is killed: the head's, or the workers'."""
    with suppress(IndexError):  # Ray does not run yet
        search.site.run("scancel", "--signal=KILL", search.step(search.rng.choice([0, -1])))
        return
    terminate(search)


def preempt(search: Search) -> None:
    """A more urgent job needs the nodes."""
    words = ("--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    search.site.run("sbatch", *words)


def lose_node(search: Search) -> None:
    """The power of a node fails; Slurm finds out."""
    search.site.fail(search.rng.choice(NODES))


KINDS: dict[str, Callable[[Search], None]] = {
    one.__name__: one for one in (requeue, time_limit, terminate, kill_step, preempt, lose_node)
}


def interrupted(search: Search, num_rounds: int, num_epochs: int) -> None:
    """Submit a search, interrupt it so often, every kind as often as the others, and let it end."""
    kinds = (list(KINDS) * num_rounds)[:num_rounds]
    search.rng.shuffle(kinds)
    share = MOMENTS * num_epochs / num_rounds
    moments = [round(share * (number + search.rng.random())) for number in range(num_rounds)]
    search.submit()
    search.wait(lambda: search.state() == "RUNNING", "it does not start")
    search.started = time.monotonic()
    for kind, moment in zip(kinds, moments, strict=True):
        search.interrupt(kind, None if search.rng.random() < SHARE_AT_START else moment)
    search.resume()
    search.finish()
    print("epochs lost:", search.num_lost(), flush=True)
