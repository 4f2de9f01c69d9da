"""Processes of a search over two nodes are killed."""

from __future__ import annotations

import time

from chaos.faults import fault
from chaos.home import LONG
from chaos.nodes import kill
from chaos.scene import FAULT, INTERRUPTED, WORKER, Scene

TWO = {"part": "processes", "nodes": 2, "lanes": 2}


def killed(scene: Scene, title: str) -> None:
    """The search bears it by itself."""
    scene.start()
    scene.until_train()
    scene.kill_one(title)
    scene.recover()
    scene.finish()


@fault("worker", "SIGKILL of a training worker", **TWO)
def worker(scene: Scene) -> None:
    killed(scene, WORKER)


@fault("lane", "SIGKILL of a lane's controller", **TWO)
def lane(scene: Scene) -> None:
    killed(scene, "ray::TrainController")


@fault("trial", "SIGKILL of a trial's actor", **TWO)
def trial(scene: Scene) -> None:
    killed(scene, "ray::ResourceTrainable")


@fault("dispatcher", "SIGKILL of the dispatcher", **TWO)
def dispatcher(scene: Scene) -> None:
    killed(scene, "ray::Dispatcher")


@fault("driver", "SIGKILL of the driver, then the same command", **TWO)
def driver(scene: Scene) -> None:
    process = scene.start()
    scene.until_train()
    scene.strike("SIGKILL of the driver", lambda: kill([process.pid]))
    scene.end(-9)
    scene.start()
    scene.recover(since=scene.begun)
    scene.finish()


@fault("raylet", "SIGKILL of a node's raylet; Ray is started there again", **TWO, epochs=LONG)
def raylet(scene: Scene) -> None:
    assert scene.nodes is not None
    node = scene.nodes.nodes[1]
    scene.start()
    scene.until_train((0.1, 0.2))
    scene.strike(f"SIGKILL of the raylet of {node.name}", lambda: kill(node.pids("raylet/raylet")))
    scene.recover()
    scene.nodes.up(2)
    scene.say("Ray is started on that node again")
    scene.finish()


def of_head(scene: Scene, title: str) -> None:
    """What nobody bears: the search ends and says so. Then the cluster is started again, and it goes on."""
    assert scene.nodes is not None
    scene.start()
    scene.until_train()
    victims = scene.nodes.head.pids(title)
    scene.strike(f"SIGKILL of {title}", lambda: kill(victims))
    scene.end(FAULT, INTERRUPTED)
    scene.seconds["noticed"] = time.monotonic() - scene.struck
    scene.nodes.end()
    scene.nodes.up(2)
    scene.say("the cluster is started again")
    scene.start()
    scene.recover(since=scene.begun)
    scene.finish()


@fault("head", "SIGKILL of the head's GCS; the cluster is started again, then the same command", **TWO)
def head(scene: Scene) -> None:
    of_head(scene, "gcs/gcs_server")


@fault(
    "head-raylet",
    "SIGKILL of the raylet beside the driver; the cluster is started again, the same command",
    **TWO,
)
def head_raylet(scene: Scene) -> None:
    of_head(scene, "raylet/raylet")
