"""Nodes of a cluster are cut off, leave, and join while it searches."""

from __future__ import annotations

import time

from chaos.faults import fault
from chaos.home import LONG
from chaos.nodes import Nodes, kill
from chaos.scene import PATIENCE_S, Scene

CUT_S = 60.0


def nodes_of(scene: Scene) -> Nodes:
    assert scene.nodes is not None
    return scene.nodes


def longest_pause(scene: Scene, for_s: float) -> float:
    """Wait so many seconds, and until all goes on; for how long at most was no epoch begun anywhere?"""
    last, num_begun, longest = time.monotonic(), len(scene.begun_epochs()), 0.0
    while time.monotonic() - scene.struck < for_s or not scene.goes_on():
        if (now := len(scene.begun_epochs())) > num_begun:
            num_begun, last = now, time.monotonic()
        longest = max(longest, time.monotonic() - last)
        assert longest < PATIENCE_S, scene.tail()
        time.sleep(0.1)
    return longest


@fault(
    "cut",
    "a node is cut off for a minute and comes back",
    "nodes",
    nodes=2,
    lanes=2,
    epochs=LONG,
)
def cut(scene: Scene) -> None:
    nodes = nodes_of(scene)
    node = nodes.nodes[1]
    scene.start()
    scene.until_train((0.05, 0.1))
    scene.strike(f"the link of {node.name} is cut", node.cut)
    scene.seconds["all stood still for"] = longest_pause(scene, CUT_S)
    scene.recover()
    node.repair()
    scene.say("the link is back")
    scene.wait(lambda: not node.pids("raylet/raylet"), "its raylet, taken for dead, does not end", 120)
    nodes.up(2)
    scene.say("Ray is started on that node again")
    scene.finish()


@fault("blink", "a node is cut off for five seconds", "nodes", nodes=2, lanes=2)
def blink(scene: Scene) -> None:
    node = nodes_of(scene).nodes[1]
    scene.start()
    scene.until_train()
    scene.strike(f"the link of {node.name} is cut", node.cut)
    time.sleep(5)
    node.repair()
    scene.say("the link is back")
    scene.recover()
    scene.finish()


@fault("leaves", "a node leaves for good", "nodes", nodes=2, lanes=2)
def leaves(scene: Scene) -> None:
    node = nodes_of(scene).nodes[1]
    scene.start()
    scene.until_train()
    scene.strike(f"all of {node.name} is killed", lambda: kill(node.pids()))
    scene.recover()
    scene.finish()


@fault("joins", "a node joins while the search runs on one", "nodes", nodes=1, lanes=2, epochs=LONG)
def joins(scene: Scene) -> None:
    nodes = nodes_of(scene)
    scene.start()
    scene.until_train((0.05, 0.1))
    assert len(scene.flying()) == 1
    began = time.monotonic()
    nodes.up(2)
    scene.say("a node has joined")
    scene.wait(lambda: len(scene.flying()) == 2, "the new node trains nothing")
    scene.seconds["trains there"] = time.monotonic() - began
    scene.finish()


@fault("four", "four nodes, of which one leaves and one is cut off", "nodes", nodes=4, lanes=4, epochs=LONG)
def four(scene: Scene) -> None:
    nodes = nodes_of(scene)
    gone, away = scene.rng.sample(nodes.nodes[1:], 2)
    scene.start()
    scene.until_train((0.1, 0.2))
    scene.strike(f"all of {gone.name} is killed", lambda: kill(gone.pids()))
    scene.recover()
    scene.strike(f"the link of {away.name} is cut", away.cut)
    scene.recover()
    away.repair()
    scene.finish()
