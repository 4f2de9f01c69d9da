"""The whole command, on this machine and over several nodes of a Ray cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from shell import wait_until
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.common.errors import BadMachine
from orchestrator.doctor import cluster as nodes_of
from orchestrator.doctor import local
from orchestrator.doctor.checks import exchange, step
from orchestrator.doctor.checks.findings import Finding, would_fail
from orchestrator.doctor.examination import LONGEST_S, Scope, examine


@pytest.fixture(autouse=True)
def nobodys_cluster(monkeypatch, tmp_path):
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "ORCHESTRATOR_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def dead() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def of(found: list[Finding], check: str) -> list[Finding]:
    return [one for one in found if one.check == check]


def test_a_dead_head_is_reported_within_seconds_with_what_to_do(tmp_path, dead, monkeypatch):
    monkeypatch.setattr(local, "check_node", lambda node, request: [])
    monkeypatch.setattr(exchange, "alone", lambda *_: [])
    monkeypatch.setattr(
        step, "timed", lambda *_: [{"network": "unet", "images": 1, "image_size": 1, "seconds": {"cpu": 1}}]
    )
    found: list[Finding] = []
    examine(Scope(tmp_path, tmp_path / "cache", address=dead), found)
    (head,) = of(found, "head")
    assert (
        head.severity == "failure" and "Connection refused" in head.found and "start it there" in head.remedy
    )
    monkeypatch.setenv("RAY_ADDRESS", dead)
    found = []
    examine(Scope(tmp_path, tmp_path / "cache"), found)
    assert "unset RAY_ADDRESS" in of(found, "head")[0].remedy and of(
        found, "step"
    )  # as a search would go on here


def test_an_address_of_a_client_is_refused(tmp_path):
    with pytest.raises(BadMachine, match="does not run through a Ray client"):
        examine(Scope(tmp_path, tmp_path, address="ray://head:10001"), [])


def test_all_ends_within_the_time_that_the_help_states():
    assert "within eight minutes" in CliRunner().invoke(app, ["doctor", "--help"]).output and LONGEST_S <= 480


@pytest.mark.slow
def test_this_machine_is_looked_at_whole_and_told_as_json(drawn_home):
    words = [
        "doctor",
        "--address",
        "local",
        "--home",
        str(drawn_home),
        "--data",
        "drawn",
        "--device",
        "cpu",
        "--json",
    ]
    done = CliRunner().invoke(app, words)
    told = json.loads(done.stdout)
    assert done.exit_code == 0 and not told["fails"], done.output
    checks = {one["check"] for one in told["findings"]}
    assert checks >= {
        "packages",
        "memory",
        "disk",
        "/dev/shm",
        "home",
        "locks",
        "data",
        "MLflow",
        "all-reduce",
        "step",
    }
    assert not [*drawn_home.glob(".doctor-*")]


@pytest.mark.slow
def test_what_would_fail_ends_with_2_and_a_table(drawn_home):
    words = ["doctor", "--address", "local", "--home", str(drawn_home), "--device", "cpu"]
    done = CliRunner().invoke(
        app, [*words, "--tracking-uri", "http://127.0.0.1:9", "--storage", "oracle://a@b/c"]
    )
    assert done.exit_code == 2 and "-> start it, or correct MLFLOW_TRACKING_URI" in done.stdout
    assert "2 failures" in done.stdout and "something would fail" in done.stdout


@pytest.mark.slow
def test_every_node_of_a_cluster_is_looked_at(two_nodes, drawn_home):
    found: list[Finding] = []
    asked = Scope(drawn_home, drawn_home / "cache", two_nodes.address, "cpu", data=["drawn"])
    examine(asked, found)
    assert not would_fail(found), [one for one in found if one.severity == "failure"]
    for check in (
        "packages",
        "clock",
        "same home",
        "locks",
        "data",
        "network",
        "ports",
        "all-reduce",
        "step",
    ):
        assert len({one.node for one in of(found, check)}) == 2, check
    assert all("gloo among 2 processes" in one.found for one in of(found, "all-reduce"))
    assert not [*drawn_home.glob(".doctor-*")]


@contextmanager
def a_node_with_its_own(home: Path, address: str, folder: Path) -> Iterator[None]:
    """A node of the cluster that sees an empty disk where the others see the home."""
    join = f"{sys.executable} -m ray.scripts.scripts start --address {address} --num-cpus 1 --block"
    mounting = (
        f"mount -t tmpfs none {home} && exec {join} --dashboard-agent-listen-port 0 --disable-usage-stats"
    )
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make a mount namespace")
    with (folder / "log").open("w") as log:
        node = subprocess.Popen(["unshare", "--mount", "sh", "-c", mounting], stdout=log, stderr=log)
    try:
        wait_until(
            lambda: "Ray runtime started" in (folder / "log").read_text(), (folder / "log").read_text, 120
        )
        yield
    finally:
        node.terminate()
        node.wait(60)


@pytest.mark.slow
def test_a_node_that_sees_another_disk_in_place_of_the_home_is_reported(two_nodes, drawn_home, tmp_path):
    found: list[Finding] = []
    with a_node_with_its_own(drawn_home, two_nodes.address, tmp_path):
        asked = Scope(drawn_home, tmp_path / "cache", two_nodes.address, "cpu", data=["drawn"])
        examine(asked, found)
    wrong = [one for one in found if one.severity == "failure"]
    assert {one.check for one in wrong} == {"same home", "data"} and len({one.node for one in wrong}) == 1
    assert "mount the same file system" in of(wrong, "same home")[0].remedy
    assert len({one.node for one in of(found, "all-reduce")}) == 3


@pytest.mark.slow
def test_a_node_that_hangs_is_a_finding_and_the_others_are_looked_at(two_nodes, drawn_home, monkeypatch):
    monkeypatch.setattr(nodes_of, "START_S", 40.0)
    raylet = two_nodes.list_all_nodes()[-1].all_processes["raylet"][0].process.pid
    os.kill(raylet, signal.SIGSTOP)
    started, found = time.monotonic(), list[Finding]()
    try:
        examine(Scope(drawn_home, drawn_home / "cache", two_nodes.address, "cpu"), found)
    finally:
        os.kill(raylet, signal.SIGCONT)
    (silent,) = of(found, "Ray")
    assert silent.severity == "failure" and "no answer within 40 s" in silent.found
    assert (
        {one.node for one in of(found, "packages")}
        == {one.node for one in of(found, "step")}
        != {silent.node}
    )
    assert time.monotonic() - started < LONGEST_S
