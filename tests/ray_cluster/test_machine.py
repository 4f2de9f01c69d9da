"""How Ray is found, and where it is started: no Ray is needed for that."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import ray

from orchestrator.common.errors import BadMachine
from orchestrator.launch.job_server import job_server
from orchestrator.ray_cluster import machine as machine_module
from orchestrator.ray_cluster.machine import Machine, cluster, reach_cluster, shut_down
from orchestrator.ray_cluster.private_ray import temp_folder


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    """Nobody's cluster, and a place of its own where Ray would write its address."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


@pytest.fixture
def dead() -> str:
    """Where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def deaf() -> Iterator[str]:
    """Somebody takes connections and says nothing, as a program that has the port of a Ray that is gone."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_head_that_is_gone_is_passed_over_by_auto_and_that_is_said(dead, monkeypatch, caplog, tmp_path):
    assert reach_cluster("auto") is None and not caplog.text
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(dead)
    assert reach_cluster("auto") is None
    assert f"no Ray cluster answers at {dead} (from ray_current_cluster" in caplog.text
    monkeypatch.setenv("RAY_ADDRESS", dead)
    assert reach_cluster("auto") is None and "(from RAY_ADDRESS;" in caplog.text


@pytest.mark.parametrize(
    "address", ["nobody.invalid:6379", "127.0.0.1:99999", "not an address", "10.0.0.1:", "a..b:80"]
)
def test_an_address_that_is_named_and_is_nobodys_is_refused(address: str):
    with pytest.raises(BadMachine, match=f"no Ray cluster answers at {address}"):
        reach_cluster(address)


def test_a_dead_address_is_refused_within_seconds_by_whatever_needs_a_cluster(dead):
    started = time.process_time()
    with pytest.raises(BadMachine, match="Connection refused"), cluster(Machine(dead)):
        pass
    with pytest.raises(BadMachine, match="Connection refused"):
        job_server(f"ray://{dead}")
    assert time.process_time() - started < 5


def test_a_server_of_grpc_is_found_whatever_proxy_is_set(monkeypatch, dead):
    monkeypatch.setenv("http_proxy", f"http://{dead}")
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    assert reach_cluster(f"127.0.0.1:{port}") == f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_who_listens_but_does_not_speak_grpc_is_not_ray(deaf, monkeypatch):
    monkeypatch.setattr("orchestrator.common.hosts.GREET_S", 0.3)
    with pytest.raises(BadMachine, match="the server there is not Ray"):
        reach_cluster(deaf)


def test_a_client_address_in_the_environment_is_refused_as_on_the_command_line(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(BadMachine, match="does not run through a Ray client"):
        reach_cluster("auto")


def test_the_ray_of_another_user_is_left_alone_by_auto_and_that_is_said(dead, monkeypatch, caplog, tmp_path):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(dead)
    monkeypatch.setattr("orchestrator.ray_cluster.machine.os.getuid", lambda: tmp_path.stat().st_uid + 1)
    assert reach_cluster("auto") is None
    assert f"a Ray of another user (uid {tmp_path.stat().st_uid}) at {dead}" in caplog.text


@pytest.mark.parametrize(
    ("machine", "num_gpus"),
    [
        (Machine(), None),
        (Machine(num_lanes=2), None),  # the plan chooses how wide they are
        (Machine(num_lanes=2, workers_per_fit=4), 8),
        (Machine(num_lanes=3, fits_per_gpu=2), 2),
    ],
)
def test_a_search_claims_no_more_gpus_than_its_lanes_hold(machine: Machine, num_gpus: int | None):
    assert machine.num_gpus == num_gpus


def test_nothing_of_rays_is_freed_while_it_shuts_down(monkeypatch):
    """Freed by a thread at that moment, it would end the process, before a leaderboard is shown."""
    freed, seen = [], []

    class Held:
        def __del__(self) -> None:
            freed.append(True)

    held = Held()
    held.myself = held  # only a collection frees it
    del held
    monkeypatch.setattr(ray, "shutdown", lambda: seen.append((bool(freed), gc.isenabled())))
    shut_down()
    assert seen == [(True, False)] and gc.isenabled()


@pytest.mark.slow
def test_a_ray_of_ours_is_starved_by_no_other_program_and_closes_its_files_to_others(monkeypatch):
    """Ray would give them a niceness of 15."""
    monkeypatch.delenv("RAY_worker_niceness")  # of all tests
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("TMPDIR", "/tmp")
    with cluster(Machine("local", "cpu")):
        assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)
        # Others find no file of it, though Ray opens its folder to everybody.
        assert temp_folder().is_dir() and temp_folder().parent.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def seen(monkeypatch) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """Options and environment with which a Ray would have been started; it is not, and BadMachine raised instead."""
    found = []

    def connect(options: dict[str, Any]) -> None:
        found.append((options, dict(os.environ)))
        raise BadMachine("--address", "seen enough")

    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.setattr(machine_module, "_connect", connect)
    return found


def test_a_ray_of_ours_may_start_more_processes_at_a_time_than_there_are_cores(seen):
    """With four times as many as it may start at a time, Ray warns in its own words."""
    with pytest.raises(BadMachine, match="seen enough"), cluster(Machine("local", "cpu")):
        pass
    ((options, environment),) = seen
    assert int(environment[machine_module.AT_ONCE]) == max(8, options["num_cpus"])
    assert machine_module.AT_ONCE not in os.environ


def test_a_ray_of_ours_has_no_processes_that_nothing_uses(seen, monkeypatch):
    with pytest.raises(BadMachine, match="seen enough"), cluster(Machine("local", "cpu")):
        pass
    monkeypatch.setenv(machine_module.WATCHES_NODES, "1")
    with pytest.raises(BadMachine, match="seen enough"), cluster(Machine("local", "cpu")):
        pass
    assert [options["include_dashboard"] for options, _ in seen] == [False, False]
    assert [environment[machine_module.WATCHES_NODES] for _, environment in seen] == ["0", "1"]
