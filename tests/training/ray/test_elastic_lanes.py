"""Lanes on a cluster whose nodes come and go."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from threading import Event

import pytest
import ray
import toy_jobs
from ray.cluster_utils import Cluster
from toy_jobs import Toy

from orchestrator.training.ray.lanes import Lanes, Shape

pytestmark = pytest.mark.slow

NODE = {"num_cpus": 2, "include_dashboard": False}
ONE_A_NODE = Shape(num_lanes=1, workers_per_lane=1, cpus_per_worker=2, gpus_per_worker=0, device="cpu")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    ray.init(
        cluster.address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(toy_jobs.__file__).parent)}},
    )
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def wait_until(is_so: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_nodes_that_join_are_used_and_nodes_that_leave_are_survived(cluster, tmp_path):
    rows: dict[str, list[dict]] = {"first": [], "second": [], "third": []}
    with Lanes(toy_jobs.perform, ONE_A_NODE, tmp_path, max_lanes=inf) as lanes, ThreadPoolExecutor() as pool:

        def begin(job_id: str, toy: Toy):
            return pool.submit(lanes.run, job_id, toy, rows[job_id].append)

        enough = Event()
        endless = {"first": Toy(epochs=100_000, seconds=0.05)}
        first = pool.submit(
            lanes.run_all, endless, lambda _, update: rows["first"].extend(update.rows), enough.is_set
        )
        wait_until(lambda: bool(rows["first"]))
        assert lanes.num_lanes() == 1
        second = begin("second", Toy(epochs=40, seconds=0.05))

        joined = cluster.add_node(num_cpus=2)
        wait_until(lambda: bool(rows["second"]))  # beside the first, which never ends
        assert lanes.num_lanes() == 2
        second.result(120)

        third = begin("third", Toy(epochs=200, seconds=0.05))
        wait_until(lambda: bool(rows["third"]))
        before = len(rows["third"])
        cluster.remove_node(joined)
        wait_until(lambda: lanes.num_lanes() == 1)
        enough.set()  # its lane takes what the lost one held
        third.result(120)
        assert [row["epoch"] for row in rows["third"][-200:]] == list(range(200))
        assert before < 200 < len(rows["third"])
        assert {row["pid"] for row in rows["third"][-200:]} == {rows["first"][0]["pid"]}
        first.result(120)

        cluster.add_node(num_cpus=2)
        wait_until(lambda: lanes.num_lanes() == 2)
        wait_until(lambda: ray.get(lanes.dispatcher.count.remote())[0] == 2)


def test_the_cluster_may_not_hold_more_lanes_than_were_asked_for(cluster, tmp_path):
    with Lanes(toy_jobs.perform, ONE_A_NODE, tmp_path, max_lanes=1) as lanes:
        cluster.add_node(num_cpus=2)
        time.sleep(8)
        assert lanes.num_lanes() == len(lanes.threads) == 1
