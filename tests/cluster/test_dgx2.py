"""`cluster/dgx2.sh`: with stand-ins what it refuses and tidies up; for real a search through it beside another Ray."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from chaos.home import SHORT, make_home
from chaos.nodes import kill, title_of
from shell import ROOT, SETTINGS, wait_until
from slurm.search import programs
from slurm.site import free_ports

from orchestrator.common.hosts import why_silent
from orchestrator.launch.render import render, write

STANDINS = Path(__file__).parent / "slurm" / "standins"
LOOPBACK = {"0100007F", "0" * 24 + "01000000", "0" * 16 + "FFFF00000100007F"}  # as /proc/net writes it


@dataclass(frozen=True)
class Dgx:
    """The script with a home of its own, and the ports that it is given."""

    home: Path
    ports: list[int]

    @property
    def environment(self) -> dict[str, str]:
        base = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
        return base | {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(self.home)}

    def script(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", self.home / "dgx2.sh", *words], env=self.environment, capture_output=True, text=True
        )

    def start(self, *more: str) -> subprocess.CompletedProcess[str]:
        names = ("--port", "--dashboard-port", "--mlflow-port")
        ports = [word for name, port in zip(names, self.ports, strict=True) for word in (name, str(port))]
        return self.script("start", "--gpus", "2", "--cpus", "2", *ports, *more)

    def state(self) -> Path:
        (found,) = self.home.glob(".dgx2-*")
        return found

    def processes(self) -> set[int]:
        """All of the sessions that it began."""
        leaders = [int(file.read_text().split()[0]) for file in self.state().glob("*.session")]
        return {
            pid
            for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*"))
            if session_of(pid) in leaders
        }


def session_of(pid: int) -> int:
    try:
        zombie = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return 0 if zombie else os.getsid(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def listening_on(pids: set[int]) -> set[str]:
    """Addresses, in hexadecimal, at which processes wait for others."""
    links = [
        str(file.readlink())
        for pid in pids
        for file in Path(f"/proc/{pid}/fd").glob("*")
        if file.is_symlink()
    ]
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    return {words[1].split(":")[0] for words in lines if words[3] == "0A" and f"socket:[{words[9]}]" in links}


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    """The address of a Ray that the same user started before."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray = Path(sys.executable).with_name("ray")
        options = [
            "--num-cpus=1",
            "--include-dashboard=false",
            f"--temp-dir={folder}",
            "--object-store-memory=100000000",
        ]
        command = [
            ray,
            "start",
            "--head",
            "--block",
            f"--port={port}",
            "--ray-client-server-port",
            str(free_ports(1)[0]),
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
        process = subprocess.Popen([*command, *options], env=environment, stdout=subprocess.DEVNULL)
        file = Path(folder, "ray_current_cluster")
        wait_until(file.exists, lambda: "no other Ray", 120)
        yield file.read_text()
        process.terminate()
        process.wait(60)


@pytest.fixture
def standing_in() -> Iterator[Dgx]:
    """Ray and MLflow are others."""
    with tempfile.TemporaryDirectory(prefix="dgx") as folder:
        dgx = Dgx(Path(folder), free_ports(3))
        programs(dgx.home / "venv", ray=STANDINS / "ray.py", mlflow=STANDINS / "mlflow.py")
        write(dgx.home / "dgx2.sh", render("dgx2", {"home": folder, "venv": f"{folder}/venv"}))
        yield dgx
        dgx.script("stop")


@pytest.fixture(scope="module")
def dgx(other: str) -> Iterator[Dgx]:
    with tempfile.TemporaryDirectory(prefix="dgx", ignore_cleanup_errors=True) as folder:
        dgx = Dgx(Path(folder), free_ports(3))
        programs(
            dgx.home / "venv",
            orchestrator=ROOT / "orchestrator",
            mlflow=Path(sys.executable).with_name("mlflow"),
        )
        make_home(dgx.home)
        write(dgx.home / "dgx2.sh", render("dgx2", {"home": folder, "venv": f"{folder}/venv"}))
        yield dgx
        dgx.script("stop")


def test_ports_that_are_taken_and_a_second_start_are_refused(standing_in: Dgx):
    with socket.create_server(("127.0.0.1", standing_in.ports[2])):
        refused = standing_in.start()
        assert (
            refused.returncode == 2
            and f"--mlflow-port {standing_in.ports[2]}: Address already" in refused.stderr
        )
    assert list(standing_in.home.glob(".dgx2-*")) == []
    assert standing_in.start().returncode == 0
    assert standing_in.script("status").returncode == 0
    assert "it runs already" in standing_in.start().stderr


def test_what_ray_writes_is_for_its_user_alone(standing_in: Dgx):
    assert standing_in.start().returncode == 0
    (folder,) = standing_in.home.glob("ray-dgx2.*")
    assert folder.stat().st_mode & 0o777 == 0o700 and (folder / "r" / "ray_current_cluster").exists()


def test_after_a_crash_it_starts_anew_and_leaves_nothing(standing_in: Dgx):
    assert standing_in.start().returncode == 0
    kill(list(standing_in.processes()))
    gone = standing_in.script("status")
    assert gone.returncode == 1 and "ray does not run\nmlflow does not run\n" in gone.stdout
    assert standing_in.start().returncode == 0
    assert standing_in.script("stop").returncode == 0
    assert list(standing_in.home.glob("ray-dgx2.*")) == list(standing_in.home.glob(".dgx2-*")) == []


def test_a_process_that_took_a_number_since_is_left_alone(standing_in: Dgx):
    assert standing_in.start().returncode == 0
    file = standing_in.state() / "ray.session"
    before, stranger = standing_in.processes(), subprocess.Popen(["sleep", "60"], start_new_session=True)
    kill([int(file.read_text().split()[0])])
    file.write_text(f"{stranger.pid} 1\n")
    assert standing_in.script("stop").returncode == 0
    assert stranger.poll() is None and not any(map(session_of, before))
    stranger.kill()
    stranger.wait()


@pytest.mark.slow
def test_a_search_through_it_is_in_its_mlflow_and_stop_ends_it_alone(dgx: Dgx, other: str):
    refused = dgx.start("--port", other.rpartition(":")[2])
    assert refused.returncode == 2 and "Address already in use" in refused.stderr

    started = dgx.start()
    assert started.returncode == 0, started.stdout + started.stderr
    assert dgx.start().returncode == 2, "it was started twice"
    assert listening_on(dgx.processes()) <= LOOPBACK

    exports, command, *_ = started.stdout.splitlines()
    address = command.split()[-1]
    data = [
        "--data",
        "near",
        "--splits",
        "k-fold:2",
        "--no-near-duplicates",
        "--trials",
        "1",
        "--rescore",
        "0",
        "--study",
        "s",
    ]
    words = [str(dgx.home / f"{SHORT}.toml"), *data, "--device", "cpu", "--address", address]
    script = f'{exports}; exec "$@"'
    search = subprocess.run(
        ["bash", "-c", script, "-", sys.executable, "-m", "orchestrator", "search", *words],
        env=dgx.environment,
        capture_output=True,
        text=True,
    )
    assert search.returncode == 0, search.stdout + search.stderr

    url = f"http://127.0.0.1:{dgx.ports[2]}/api/2.0/mlflow/experiments/get-by-name?experiment_name=s"
    assert requests.get(url, timeout=30).status_code == 401
    password = (dgx.state() / "password").read_text().strip()
    assert requests.get(url, auth=("admin", password), timeout=30).json()["experiment"]["name"] == "s"

    left = dgx.processes()
    assert dgx.script("stop").returncode == 0
    wait_until(lambda: not any(map(session_of, left)), lambda: f"{[*map(title_of, left)]}", 10)
    assert list(dgx.home.glob(".dgx2-*")) == list(dgx.home.glob("ray-dgx2.*")) == []
    assert dgx.script("status").returncode == 1
    assert why_silent(other, is_grpc=True) is None
