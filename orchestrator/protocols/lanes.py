"""The lanes through which jobs of tables pass: all GPUs of the machine or of the cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import ray

from orchestrator.protocols.run import Performer
from orchestrator.protocols.work import Places, TableWork
from orchestrator.ray_cluster.machine import Machine, cluster, shape_lanes
from orchestrator.training.ray.lanes import Lanes


def lanes_of(machine: Machine, places: Places) -> Callable[[], AbstractContextManager[Performer]]:
    """A context in which lanes of this machine perform jobs; Ray starts when it is entered."""

    @contextmanager
    def performer() -> Iterator[Performer]:
        with cluster(machine):
            shape = shape_lanes(ray.nodes(), machine)
            with Lanes(
                TableWork(places), shape, places.folder / "train", machine.num_lanes or math.inf
            ) as lanes:
                yield lanes

    return performer
