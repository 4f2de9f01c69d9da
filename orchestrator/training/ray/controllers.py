"""Controllers of Ray Train: actors that `TorchTrainer.fit` waits for and does not expose.

A thread that waits for one while Ray shuts down may end the whole process, at once and with exit code 1 ("the
core worker has already been shutdown", Ray 2.60).
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

import ray
from ray.exceptions import ActorHandleNotFoundError

from orchestrator.common.private_api import private


def controllers() -> frozenset[str]:
    """Actor ids of this job's controllers that live or are about to start."""
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    actors = private("ray_state").actor_table(None, job)
    return frozenset(
        name
        for name, actor in actors.items()
        if actor["ActorClassName"] == "TrainController" and actor["State"] != "DEAD"
    )


def kill(names: Collection[str]) -> None:
    """Kill these controllers; threads that wait for one get an error."""
    for name in names:
        with suppress(ActorHandleNotFoundError):  # no thread waits for it any more
            private("ray_worker").core_worker.kill_actor(ray.ActorID.from_hex(name), True)
