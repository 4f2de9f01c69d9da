"""Commands as jobs on a cluster that was started by hand: sixteen GPUs that are only announced, two workers a fit."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from head import Cluster, free_ports
from shell import ROOT, Shell, command, wait_until
from tiny_space import tiny_space

from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset

pytestmark = pytest.mark.slow

SPACE = tiny_space()


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
    assert "study job: until 2 trials; 5 folds" in log and "2 lanes of 2 workers on cpu" in log
    assert [f"trial {trial} fold {fold}" in log for trial in range(2) for fold in range(5)] == [True] * 10
    assert log.index("trial 1 done") < log.index("job, scores on validation images in percent")


def test_the_log_of_the_job_holds_nothing_but_what_the_command_says(log: str):
    # A machine with fewer cores than the cluster says it has is told so by Ray itself.
    lines = [line for line in log.splitlines() if "(raylet)" not in line]
    assert not [line for line in lines if "Traceback" in line or "Warning" in line or "\x1b[" in line]
    assert [line for line in lines if len(line) > 300] == []


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
        "--no-near-duplicates",
    ]
    client = cluster.search_through_client(*study, *spread)
    printed, errors = client.communicate(timeout=600)
    assert client.returncode == 0, printed + errors
    assert " --no-near-duplicates" in printed.splitlines()[0] and "five-fold-by-image-seed0" in printed
    assert (
        "study client: until 1 trial; 5 folds" in printed and "client, scores on validation images" in printed
    )
    (row,) = json.loads(cluster.shell.run("leaderboard", "client", "--json"))
    assert row["folds_done"] == 5


def test_a_mistake_that_only_the_cluster_can_see_ends_the_client_with_its_message_and_code(cluster: Cluster):
    client = cluster.search_through_client(
        *("tiny.toml", "--data", "drwan", "--trials", "1", "--home", cluster.shell.home)
    )
    printed, errors = client.communicate(timeout=600)
    assert client.returncode == 2, printed + errors
    assert "no dataset is named 'drwan'; did you mean drawn? known: drawn" in printed, printed + errors


def test_a_client_address_where_nothing_answers_is_a_mistake(cluster: Cluster):
    (nowhere,) = free_ports(1)
    client = cluster.search_through_client("tiny.toml", "--data", "drawn", "--trials", "1", port=nowhere)
    errors = client.communicate(timeout=600)[1]
    assert client.returncode == 2 and f"no Ray cluster accepts jobs at ray://127.0.0.1:{nowhere}" in errors


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


def read_until(words: str, client: subprocess.Popen[str]) -> str:
    """What a command has printed when it has printed this."""
    assert client.stdout is not None
    printed = ""
    while words not in printed and (line := client.stdout.readline()):
        printed += line
    assert words in printed, printed + client.communicate(timeout=600)[1]
    return printed


LONG = ("--data", "drawn", "--trials", "500", "--lanes", "1", "--device", "cpu", "--rescore", "0")


def test_ctrl_c_at_a_submission_detaches_and_stop_drains_and_the_same_command_goes_on(cluster: Cluster):
    home = cluster.shell.home
    words = ("--", "search", "tiny.toml", *LONG, "--study", "drained", "--home", home)
    client = cluster.submit(*words)
    id = re.match("job (drained-[0-9-]+): search", read_until("trial 0 fold 0", client))[1]
    client.send_signal(signal.SIGINT)
    _, errors = client.communicate(timeout=60)
    assert client.returncode == 130 and f"job {id} continues" in errors and "Traceback" not in errors

    again = cluster.submit(*words)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 2 and f"drained: is running already, as job {id}" in errors

    (row,) = [row for row in listed(cluster) if row["id"] == id]
    assert (
        row["state"] == "running"
        and row["study"] == "drained"
        and row["command"].startswith("search files/tiny")
    )

    reader = cluster.submit("--attach", id)
    read_until("trial 0 fold 0", reader)  # from the beginning
    stop = cluster.submit("--stop", id)
    _, errors = stop.communicate(timeout=600)
    assert stop.returncode == 0 and f"job {id}: stopped" in errors
    log, _ = reader.communicate(timeout=60)
    assert (
        reader.returncode == 130
        and "interrupted; the same command continues from here (study drained)" in log
    )

    before = json.loads(cluster.shell.run("status", "drained", "--json"))["fits_done"]
    short = [word if word != "500" else "1" for word in map(str, words)]
    client = cluster.submit(*short)
    printed, errors = client.communicate(timeout=600)
    assert client.returncode == 0, printed + errors
    assert json.loads(cluster.shell.run("status", "drained", "--json"))["fits_done"] >= before


def listed(cluster: Cluster) -> list[dict[str, Any]]:
    return json.loads(cluster.submit("--list", "--json").communicate(timeout=120)[0])


def test_a_lost_terminal_never_stops_a_job(cluster: Cluster):
    client = cluster.submit(
        "--on-interrupt",
        "stop",
        "--",
        "search",
        "tiny.toml",
        *LONG,
        "--study",
        "lost",
        "--home",
        cluster.shell.home,
    )
    read_until("trial 0 fold 0", client)
    client.send_signal(signal.SIGHUP)
    client.communicate(timeout=60)
    assert client.returncode == 75
    (row,) = [row for row in listed(cluster) if row["study"] == "lost"]
    assert row["state"] == "running"
    stop = cluster.submit("--stop", row["id"])
    stop.communicate(timeout=600)
    assert stop.returncode == 0


def test_every_address_of_a_cluster_leads_to_its_jobs(cluster: Cluster):
    found = [
        cluster.outside("submit", "--address", address, "--list", "--json").communicate(timeout=300)
        for address in (
            f"http://127.0.0.1:{cluster.dashboard}",
            f"127.0.0.1:{cluster.dashboard}",
            f"127.0.0.1:{cluster.gcs}",
            f"ray://127.0.0.1:{cluster.client}",
        )
    ]
    assert all(printed for printed, _ in found), [errors for _, errors in found]
    ids = [[row["id"] for row in json.loads(printed)] for printed, _ in found]
    assert ids[0] and ids == [ids[0]] * 4


@pytest.mark.parametrize("kind", ["http", "gcs", "client"])
def test_a_missing_token_and_a_wrong_one_are_reported_in_a_sentence(cluster: Cluster, kind: str):
    address = {
        "http": f"http://127.0.0.1:{cluster.dashboard}",
        "gcs": f"127.0.0.1:{cluster.gcs}",
        "client": f"ray://127.0.0.1:{cluster.client}",
    }[kind]
    good = cluster.environment
    for change in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "f" * 64}):
        cluster.environment = good | change
        try:
            client = cluster.outside("submit", "--address", address, "--list")
            _, errors = client.communicate(timeout=300)
        finally:
            cluster.environment = good
        assert client.returncode == 2 and "token" in errors and len(errors.splitlines()) <= 3, errors


def test_a_wheel_submits_from_a_folder_that_is_no_checkout(cluster: Cluster, tmp_path: Path):
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    for name in ("orchestrator", "models", "search_spaces"):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        installed,
    ]
    subprocess.run([*pip, source], check=True)
    done = subprocess.run(
        command("submit", "--address", "auto", "--", "leaderboard", "small?"),
        cwd=tmp_path,
        env=cluster.environment | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "job leaderboard-small" in done.stdout and "'small?'" in done.stdout


def test_nothing_secret_is_shown_with_a_job(cluster: Cluster, log: str):
    token = cluster.environment["RAY_AUTH_TOKEN"]
    url = f"{cluster.environment['RAY_API_SERVER_ADDRESS']}/api/jobs/"
    shown = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60).text
    assert "entrypoint" in shown and token not in shown
