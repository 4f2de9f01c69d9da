"""Train's controllers: an actor each, which `TorchTrainer.fit` waits for and gives to nobody.

A thread that still waits for one when Ray is shut down may end the whole process, at once and with exit code 1 ("the
core worker has already been shutdown", Ray 2.60).
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

import ray
from ray.exceptions import ActorHandleNotFoundError

from orchestrator.common.private_api import private


def controllers() -> frozenset[str]:
    """Those of this job that live, or that Ray has yet to start, by their actors' ids."""
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    actors = private("ray_state").actor_table(None, job)
    return frozenset(
        name
        for name, actor in actors.items()
        if actor["ActorClassName"] == "TrainController" and actor["State"] != "DEAD"
    )


def kill(names: Collection[str]) -> None:
    """Kill these controllers: who waits for one is told that it died."""
    for name in names:
        with suppress(ActorHandleNotFoundError):  # nobody waits for it any more
            private("ray_worker").core_worker.kill_actor(ray.ActorID.from_hex(name), True)
