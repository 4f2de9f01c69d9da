"""Nodes of a cluster are cut off, leave, and join while it searches."""

from __future__ import annotations

import time

from chaos.disturbed_study import PATIENCE_S, DisturbedStudy
from chaos.faults import fault
from chaos.home import LONG
from chaos.nodes import Nodes, kill

CUT_S = 60.0


def nodes_of(disturbed: DisturbedStudy) -> Nodes:
    assert disturbed.nodes is not None
    return disturbed.nodes


def longest_pause(disturbed: DisturbedStudy, for_s: float) -> float:
    """Wait so many seconds, and until all goes on; for how long at most was no epoch begun anywhere?"""
    last, num_begun, longest = time.monotonic(), len(disturbed.begun_epochs()), 0.0
    while time.monotonic() - disturbed.disturbed_at < for_s or not disturbed.is_continued():
        if (now := len(disturbed.begun_epochs())) > num_begun:
            num_begun, last = now, time.monotonic()
        longest = max(longest, time.monotonic() - last)
        assert longest < PATIENCE_S, disturbed.tail()
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
def cut(disturbed: DisturbedStudy) -> None:
    nodes = nodes_of(disturbed)
    node = nodes.nodes[1]
    disturbed.start()
    disturbed.until_train((0.05, 0.1))
    disturbed.disturb(f"the link of {node.name} is cut", node.cut)
    disturbed.seconds["all stood still for"] = longest_pause(disturbed, CUT_S)
    disturbed.recover()
    node.repair()
    disturbed.say("the link is back")
    disturbed.wait(lambda: not node.pids("raylet/raylet"), "its raylet, taken for dead, does not end", 120)
    nodes.up(2)
    disturbed.say("Ray is started on that node again")
    disturbed.finish()


@fault("blink", "a node is cut off for five seconds", "nodes", nodes=2, lanes=2)
def blink(disturbed: DisturbedStudy) -> None:
    node = nodes_of(disturbed).nodes[1]
    disturbed.start()
    disturbed.until_train()
    disturbed.disturb(f"the link of {node.name} is cut", node.cut)
    time.sleep(5)
    node.repair()
    disturbed.say("the link is back")
    disturbed.recover()
    disturbed.finish()


@fault("leaves", "a node leaves for good", "nodes", nodes=2, lanes=2)
def leaves(disturbed: DisturbedStudy) -> None:
    node = nodes_of(disturbed).nodes[1]
    disturbed.start()
    disturbed.until_train()
    disturbed.disturb(f"all of {node.name} is killed", lambda: kill(node.pids()))
    disturbed.recover()
    disturbed.finish()


@fault("joins", "a node joins while the search runs on one", "nodes", nodes=1, lanes=2, epochs=LONG)
def joins(disturbed: DisturbedStudy) -> None:
    nodes = nodes_of(disturbed)
    disturbed.start()
    disturbed.until_train((0.05, 0.1))
    assert len(disturbed.in_flight()) == 1
    began = time.monotonic()
    nodes.up(2)
    disturbed.say("a node has joined")
    disturbed.wait(lambda: len(disturbed.in_flight()) == 2, "the new node trains nothing")
    disturbed.seconds["trains there"] = time.monotonic() - began
    disturbed.finish()


@fault("four", "four nodes, of which one leaves and one is cut off", "nodes", nodes=4, lanes=4, epochs=LONG)
def four(disturbed: DisturbedStudy) -> None:
    nodes = nodes_of(disturbed)
    gone, away = disturbed.rng.sample(nodes.nodes[1:], 2)
    disturbed.start()
    disturbed.until_train((0.1, 0.2))
    disturbed.disturb(f"all of {gone.name} is killed", lambda: kill(gone.pids()))
    disturbed.recover()
    disturbed.disturb(f"the link of {away.name} is cut", away.cut)
    disturbed.recover()
    away.repair()
    disturbed.finish()
