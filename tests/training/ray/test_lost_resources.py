"""Places in the cluster whose maker died are given back, and no others; with a real Ray."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from orchestrator.training.ray.lost_resources import release_orphaned


@pytest.fixture(autouse=True)
def local_ray() -> Iterator[None]:
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


def take() -> PlacementGroup:
    place = placement_group([{"CPU": 1}])
    ray.get(place.ready())
    return place


@ray.remote(num_cpus=0)
class Maker:
    def take(self) -> list[PlacementGroup]:
        """A place that is there, and one that the cluster never has room for."""
        return [take(), placement_group([{"CPU": 100}])]


@pytest.mark.slow
def test_what_a_dead_actor_took_is_given_back_and_nothing_else():
    makers = [Maker.remote(), Maker.remote()]  # type: ignore[attr-defined]
    (deserted, awaited), (kept, waiting) = ray.get([maker.take.remote() for maker in makers])
    own = take()
    assert release_orphaned() == 0

    ray.kill(makers[0])
    deadline = time.monotonic() + 60
    while not release_orphaned():
        assert time.monotonic() < deadline
        time.sleep(0.1)

    while ray.available_resources()["CPU"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    places = (deserted, awaited, kept, waiting, own)
    states = [ray.util.placement_group_table(place)["state"] for place in places]
    assert states == ["REMOVED", "REMOVED", "CREATED", "PENDING", "CREATED"]
    assert release_orphaned() == 0
    remove_placement_group(own)
