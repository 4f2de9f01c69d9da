"""Processes of a search over two nodes are killed."""

from __future__ import annotations

import time

from chaos.disturbed_study import FAULT, INTERRUPTED, WORKER, DisturbedStudy
from chaos.faults import fault
from chaos.home import LONG
from chaos.nodes import kill

TWO = {"part": "processes", "nodes": 2, "lanes": 2}


def killed(disturbed: DisturbedStudy, title: str) -> None:
    """The search bears it by itself."""
    disturbed.start()
    disturbed.until_train()
    disturbed.kill_one(title)
    disturbed.recover()
    disturbed.finish()


@fault("worker", "SIGKILL of a training worker", **TWO)
def worker(disturbed: DisturbedStudy) -> None:
    killed(disturbed, WORKER)


@fault("lane", "SIGKILL of a lane's controller", **TWO)
def lane(disturbed: DisturbedStudy) -> None:
    killed(disturbed, "ray::TrainController")


@fault("trial", "SIGKILL of a trial's actor", **TWO)
def trial(disturbed: DisturbedStudy) -> None:
    killed(disturbed, "ray::ResourceTrainable")


@fault("dispatcher", "SIGKILL of the dispatcher", **TWO)
def dispatcher(disturbed: DisturbedStudy) -> None:
    killed(disturbed, "ray::Dispatcher")


@fault("driver", "SIGKILL of the driver, then the same command", **TWO)
def driver(disturbed: DisturbedStudy) -> None:
    process = disturbed.start()
    disturbed.until_train()
    disturbed.disturb("SIGKILL of the driver", lambda: kill([process.pid]))
    disturbed.end(-9)
    disturbed.start()
    disturbed.recover(since=disturbed.begun)
    disturbed.finish()


@fault(
    "driver-elsewhere",
    "SIGKILL of a training worker, then of the driver, which runs on a node that is not the head",
    **TWO,
    options=(("driver_node", 1),),
)
def driver_elsewhere(disturbed: DisturbedStudy) -> None:
    process = disturbed.start()
    disturbed.until_train((0.1, 0.3))
    disturbed.kill_one(WORKER)
    disturbed.recover()
    disturbed.disturb("SIGKILL of the driver", lambda: kill([process.pid]))
    disturbed.end(-9)
    disturbed.start()
    disturbed.recover(since=disturbed.begun)
    disturbed.finish()


@fault("raylet", "SIGKILL of a node's raylet; Ray is started there again", **TWO, epochs=LONG)
def raylet(disturbed: DisturbedStudy) -> None:
    assert disturbed.nodes is not None
    node = disturbed.nodes.nodes[1]
    disturbed.start()
    disturbed.until_train((0.1, 0.2))
    disturbed.disturb(f"SIGKILL of the raylet of {node.name}", lambda: kill(node.pids("raylet/raylet")))
    disturbed.recover()
    disturbed.nodes.up(2)
    disturbed.say("Ray is started on that node again")
    disturbed.finish()


def of_head(disturbed: DisturbedStudy, title: str) -> None:
    """What nobody bears: the search ends and says so. Then the cluster is started again, and it goes on."""
    assert disturbed.nodes is not None
    disturbed.start()
    disturbed.until_train()
    processes = disturbed.nodes.head.pids(title)
    disturbed.disturb(f"SIGKILL of {title}", lambda: kill(processes))
    disturbed.end(FAULT, INTERRUPTED)
    disturbed.seconds["noticed"] = time.monotonic() - disturbed.disturbed_at
    disturbed.nodes.end()
    disturbed.nodes.up(2)
    disturbed.say("the cluster is started again")
    disturbed.start()
    disturbed.recover(since=disturbed.begun)
    disturbed.finish()


@fault("head", "SIGKILL of the head's GCS; the cluster is started again, then the same command", **TWO)
def head(disturbed: DisturbedStudy) -> None:
    of_head(disturbed, "gcs/gcs_server")


@fault(
    "head-raylet",
    "SIGKILL of the raylet beside the driver; the cluster is started again, the same command",
    **TWO,
)
def head_raylet(disturbed: DisturbedStudy) -> None:
    of_head(disturbed, "raylet/raylet")
