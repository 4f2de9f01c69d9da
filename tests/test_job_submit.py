"""A search as a job on a cluster that was started by hand: sixteen GPUs that are only announced, two workers a fit."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from shell import ROOT, Shell, command, wait_until

from orchestrator.data.cases import add_dataset
from orchestrator.data.phantom import draw_dataset

pytestmark = pytest.mark.slow

SPACE = """
network = "unet"
[search]
learning_rate = { log_uniform = [1e-3, 1e-2] }
[fixed]
base_channels = 4
image_size = 32
epochs = 2
batch_size = 8
[baseline]
learning_rate = 5e-3
"""
BIN = Path(sys.executable).parent
FREE = "import json, ray; ray.init(logging_level='ERROR'); print(json.dumps(ray.available_resources()))"


class Cluster:
    """One head node that nobody else on this machine can mistake for theirs."""

    def __init__(self, shell: Shell) -> None:
        self.gcs, self.dashboard, self.client, *others = free_ports(6)
        self.shell = shell
        names = (
            "--ray-client-server-port",
            "--dashboard-agent-listen-port",
            "--dashboard-agent-grpc-port",
            "--metrics-export-port",
        )
        self.ports = dict(
            zip(
                ("--port", "--dashboard-port", *names),
                (self.gcs, self.dashboard, self.client, *others),
                strict=True,
            )
        )
        self.environment = shell.environment | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ADDRESS": f"127.0.0.1:{self.gcs}",
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.dashboard}",
        }

    @contextmanager
    def up(self) -> Iterator[None]:
        """Start it in the foreground of a process of ours, and end that and all that came of it."""
        ports = [f"{name}={port}" for name, port in self.ports.items()]
        ports += ["--min-worker-port=0", "--max-worker-port=0"]  # any that is free
        size = ["--num-cpus=4", "--num-gpus=16", "--object-store-memory=200000000"]
        where = ["--node-ip-address=127.0.0.1", f"--temp-dir={self.shell.ray}"]
        head = [BIN / "ray", "start", "--head", "--block", "--disable-usage-stats", *ports, *size, *where]
        environment = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        with (
            (self.shell.ray / "head.log").open("w") as log,
            subprocess.Popen(head, env=environment, stdout=log, stderr=log) as process,
        ):
            try:
                wait_until(
                    lambda: self.takes_jobs() or process.poll() is not None, lambda: "no job was taken"
                )
                assert process.poll() is None, Path(log.name).read_text()
                yield
            finally:
                self.shell.close()

    def takes_jobs(self) -> bool:
        """Whether the dashboard and its agent are both there: the one answers long before the other does."""
        return self.ray("job", "submit", "--", "true").returncode == 0

    def ray(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of Ray's own commands against this cluster, where the project lies."""
        return subprocess.run(
            [BIN / "ray", *words], cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=600
        )

    def search_through_client(self, *words: str | Path, port: int = 0) -> subprocess.Popen[str]:
        """Begin a search on this cluster as somebody does who has nothing of it but its client port."""
        told = {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "ORCHESTRATOR_HOME"}
        environment = {name: value for name, value in self.environment.items() if name not in told}
        return subprocess.Popen(
            command("search", *words, "--address", f"ray://127.0.0.1:{port or self.client}"),
            cwd=self.shell.home,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def available(self) -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-c", FREE], env=self.environment, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout.splitlines()[-1])


def free_ports(number: int) -> list[int]:
    """Ports that nothing listens on, and that the system gives to nobody who asks for just any."""
    candidates = random.sample(range(24_000, 32_000), 200)
    return [port for port in candidates if _is_free(port)][:number]


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("shared")
    (home / "tiny.toml").write_text(SPACE)
    draw_dataset(home / "frames", num_cases=24, size=32)
    add_dataset(home, "drawn", home / "frames", allow_empty=True)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray:
        shell = Shell(home, Path(ray))
        cluster = Cluster(shell)
        with cluster.up():
            yield cluster


@pytest.fixture(scope="module")
def log(cluster: Cluster) -> str:
    """What `ray job logs` shows of a search that was submitted and has ended."""
    home = cluster.shell.home
    job = ["python", "-m", "orchestrator", "search", home / "tiny.toml", "--data", "drawn", "--trials", "2"]
    spread = ["--workers-per-fit", "2", "--lanes", "2", "--device", "cpu", "--address", "auto"]
    submitted = cluster.ray(
        *("job", "submit", "--submission-id", "small", "--working-dir", ".", "--", *job),
        *(*spread, "--study", "job", "--home", home),
    )
    head = (cluster.shell.ray / "head.log").read_text()
    assert submitted.returncode == 0, "\n".join((submitted.stdout, submitted.stderr, head))
    return cluster.ray("job", "logs", "small").stdout.partition(" --home ")[2]


def test_the_log_of_the_job_tells_of_folds_and_ends_with_the_leaderboard(log: str):
    assert "study job: until 2 trials; 5 folds" in log and "2 lane(s) of 2 workers on cpu" in log
    assert [f"trial {trial} fold {fold}" in log for trial in range(2) for fold in range(5)] == [True] * 10
    assert log.index("trial 1 done") < log.index("job, scores on validation images in percent")


def test_the_log_of_the_job_holds_nothing_but_what_the_command_says(log: str):
    # A machine with fewer cores than the cluster says it has is told so by Ray itself.
    lines = [line for line in log.splitlines() if "(raylet)" not in line]
    assert not [line for line in lines if "Traceback" in line or "Warning" in line or "\x1b[" in line]
    assert max(map(len, lines)) < 250


def test_the_results_are_on_the_storage_path_that_was_named(cluster: Cluster, log: str):
    rows = json.loads(cluster.shell.run("leaderboard", "job", "--json"))
    assert [row["folds_done"] for row in rows] == [5, 5]
    assert (cluster.shell.home / "mlflow.db").exists()


def test_every_gpu_is_free_again(cluster: Cluster, log: str):
    wait_until(
        lambda: cluster.available().get("GPU") == 16,
        lambda: f"still held: {cluster.available()}",
        patience_s=60,
    )


def test_what_is_uploaded_is_the_project_without_its_environment(cluster: Cluster, log: str):
    (package,) = cluster.shell.ray.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
    names = {path.name for path in package.iterdir()}
    assert {"orchestrator", "models", "search_spaces"} <= names
    assert not {".venv", ".git", "demo"} & names


def test_a_search_through_the_ray_client_runs_on_the_cluster_and_its_log_comes_back(cluster: Cluster):
    spread = ["--workers-per-fit", "2", "--lanes", "2", "--device", "cpu"]
    study = [
        "tiny.toml",
        "--data",
        "drawn",
        "--trials",
        "1",
        "--study",
        "client",
        "--home",
        ".",
        "--no-twins",
    ]
    client = cluster.search_through_client(*study, *spread)
    printed, errors = client.communicate(timeout=600)
    assert client.returncode == 0, printed + errors
    assert " --no-twins" in printed.splitlines()[0] and "five-fold-by-image-seed0" in printed
    assert (
        "study client: until 1 trials; 5 folds" in printed
        and "client, scores on validation images" in printed
    )
    (row,) = json.loads(cluster.shell.run("leaderboard", "client", "--json"))
    assert row["folds_done"] == 5


def test_a_mistake_that_only_the_cluster_can_see_ends_the_client_with_its_message_and_code(cluster: Cluster):
    client = cluster.search_through_client(
        *("tiny.toml", "--data", "drwan", "--trials", "1", "--home", cluster.shell.home)
    )
    printed, errors = client.communicate(timeout=600)
    assert client.returncode == 2, printed + errors
    assert "no dataset is named 'drwan'; known: drawn" in printed


def test_a_client_address_where_nothing_answers_is_a_mistake(cluster: Cluster):
    (nowhere,) = free_ports(1)
    client = cluster.search_through_client("tiny.toml", "--data", "drawn", "--trials", "1", port=nowhere)
    errors = client.communicate(timeout=600)[1]
    assert client.returncode == 2 and f"no Ray cluster takes jobs at ray://127.0.0.1:{nowhere}" in errors


def test_ctrl_c_at_the_client_ends_the_job_too(cluster: Cluster):
    study = ["tiny.toml", "--data", "drawn", "--trials", "500", "--study", "long", "--lanes", "1"]
    client = cluster.search_through_client(*study, "--device", "cpu", "--home", cluster.shell.home)
    assert client.stdout is not None
    printed = ""
    while "trial 0 fold" not in printed and (line := client.stdout.readline()):
        printed += line
    assert "trial 0 fold" in printed, printed + client.communicate(timeout=600)[1]
    client.send_signal(signal.SIGINT)
    rest, errors = client.communicate(timeout=600)
    assert client.returncode == 130, printed + rest + errors
    assert "RUNNING" not in cluster.ray("job", "list").stdout
    assert "Traceback" not in errors
