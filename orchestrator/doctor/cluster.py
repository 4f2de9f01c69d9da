"""The checks on every node of a cluster, through one actor per node; and those that need several nodes.

A node that does not answer in time, or cannot import this program, is a finding.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import AuthenticationError, GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.common.errors import BadMachine
from orchestrator.doctor import local
from orchestrator.doctor.checks import clock, exchange, network, step
from orchestrator.doctor.checks.exchange import ExchangeProcess
from orchestrator.doctor.checks.findings import Finding, Result
from orchestrator.ray_cluster.machine import shut_down

START_S, ANSWER_S, CLOCK_S = 60.0, 10.0, 10.0
LONGEST_S = START_S + CLOCK_S + local.LONGEST_S + exchange.LIMIT_S + step.LIMIT_S + 4 * ANSWER_S
NUM_PEERS = (
    8  # nodes that each node tries to reach, so that a thousand nodes do not make a million connections
)


@dataclass(frozen=True)
class ClusterNode:
    """A living node of the cluster."""

    id: str
    name: str
    host: str
    ports: dict[str, int]  # of Ray there


class Examiner:
    """Actor that runs checks on its node."""

    def now(self) -> float:
        return time.time()

    def num_gpus(self) -> int:
        return local.num_gpus()

    def check_node(self, node: str, request: local.Request) -> list[Finding]:
        return local.check_node(node, request)

    def free_port(self, host: str) -> int:
        return network.free_port(host)

    def interface(self, host: str) -> str:
        return network.interface_of(host) or ""

    def exchange(self, part: ExchangeProcess, interface: str) -> dict[str, Any]:
        return exchange.take_part(part, interface)

    def exchange_alone(self, device: str, interface: str) -> list[Result]:
        return exchange.alone(local.num_gpus(), device, interface)

    def step(self, space: str, device: str) -> list[dict[str, Any]]:
        return step.timed(space, device)


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Context connected to a cluster. Raises `BadMachine` with a remedy if the connection fails."""
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except AuthenticationError as error:
        raise BadMachine(
            "RAY_AUTH_MODE", f"{_first_line(error)}; set RAY_AUTH_MODE=token, and copy the token"
        ) from error
    except (ConnectionError, ValueError, RuntimeError) as error:
        remedy = "use its Ray and its Python here, and run this on one of its nodes"
        raise BadMachine("--address", f"{address} rejects us: {_first_line(error)}; {remedy}") from error
    try:
        yield
    finally:
        shut_down()


def nodes() -> list[ClusterNode]:
    """Living nodes, including the head, sorted by name."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    hosts = [node["NodeManagerHostname"] for node in alive]
    head = ray.get_runtime_context().gcs_address
    found = []
    for node in alive:
        host, port = node["NodeManagerHostname"], node["NodeManagerPort"]
        name = host if hosts.count(host) == 1 else f"{host}:{port}"
        ports = {"raylet": port, "objects": node["ObjectManagerPort"]}
        if head.rpartition(":")[0].strip("[]") == node["NodeManagerAddress"]:
            ports["head"] = int(head.rpartition(":")[2])
        found.append(ClusterNode(node["NodeID"], name, node["NodeManagerAddress"], ports))
    return sorted(found, key=lambda node: node.name)


class ExaminedCluster:
    """An examiner on every node; nodes that do not answer are excluded from later checks."""

    def __init__(self, among: Sequence[ClusterNode], findings: list[Finding]) -> None:
        self.nodes, self.findings = {node.name: node for node in among}, findings
        make = ray.remote(Examiner)
        self.actors: dict[str, Any] = {
            name: make.options(  # type: ignore[attr-defined]
                num_cpus=0,
                max_concurrency=4,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
                runtime_env={"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}},  # GPUs stay visible
            ).remote()
            for name, node in self.nodes.items()
        }
        self.num_gpus: dict[str, int] = {}

    def start(self) -> None:
        """Wait until the examiners are up."""
        remedy = "check whether this program and its packages are installed for the Python of Ray there"
        answers = self._ask("Ray", lambda name, actor: actor.num_gpus.remote(), START_S, remedy)
        for name in self.nodes.keys() - answers.keys():
            self.actors.pop(name)
        self.num_gpus = answers

    def clocks(self) -> None:
        deadline = time.monotonic() + CLOCK_S
        for name, actor in self.actors.items():
            with suppress(GetTimeoutError, RayError):
                ask = self._in_time(actor, deadline)
                self._note(name, "clock", clock.judge(clock.measure(ask)))

    def check_node(self, request: local.Request) -> None:
        remedy = "find what hangs on this node, and run the command there with --address local"
        names = [*self.actors]
        answers = self._ask(
            "checks",
            lambda name, actor: actor.check_node.remote(name, self._of(name, names, request)),
            local.LONGEST_S + ANSWER_S,
            remedy,
        )
        for found in answers.values():
            self.findings += found

    def exchange(self, interface: str, device: str) -> None:
        """An all-reduce among one process per node; for a single node, among its GPUs."""
        names = [*self.actors]
        if len(names) < 2:
            limit_s = exchange.LIMIT_S + ANSWER_S
            for name, results in self._ask(
                "all-reduce",
                lambda name, actor: actor.exchange_alone.remote(device, interface or "lo"),
                limit_s,
                "find what hangs on this node",
            ).items():
                self._note(name, "all-reduce", results)
            return
        backend = exchange.backend_of([self.num_gpus[name] for name in names], device)
        hosts = [self.nodes[name].host for name in names]
        try:
            port = ray.get(self.actors[names[0]].free_port.remote(hosts[0]), timeout=ANSWER_S)
        except (RayError, GetTimeoutError):
            return  # reported by `look`
        parts = dict(zip(names, exchange.parts(hosts, port, backend), strict=True))
        own = self._ask(None, lambda name, actor: actor.interface.remote(self.nodes[name].host), ANSWER_S)
        answers = self._ask(
            None,
            lambda name, actor: actor.exchange.remote(parts[name], interface),
            exchange.LIMIT_S + ANSWER_S,
        )
        for name in names:
            answer = answers.get(name, TimeoutError("no answer"))
            self._note(
                name, "all-reduce", exchange.judge(answer, parts[name], interface or own.get(name, ""))
            )

    def steps(self, space: str, device: str) -> None:
        answers: dict[str, Any] = dict.fromkeys(self.actors, TimeoutError("no step of training in time"))
        answers |= self._ask(
            None, lambda name, actor: actor.step.remote(space, device), step.LIMIT_S + ANSWER_S
        )
        for name in answers:
            self._note(name, "step", step.judge(name, answers))

    def _of(self, name: str, names: Sequence[str], request: local.Request) -> local.Request:
        """The request for one node, with the next nodes as its peers."""
        at = names.index(name)
        others = [*names[at + 1 :], *names[:at]][:NUM_PEERS]
        peers = {other: (self.nodes[other].host, self.nodes[other].ports["raylet"]) for other in others}
        return replace(request, peers=peers, ports=self.nodes[name].ports)

    def _ask(
        self, check: str | None, ask: Callable[[str, Any], Any], limit_s: float, remedy: str = ""
    ) -> dict[str, Any]:
        """Answers by node within `limit_s`; a missing one is a finding of `check`, or else an exception."""
        pending = {name: ask(name, actor) for name, actor in self.actors.items()}
        deadline = time.monotonic() + limit_s
        answers: dict[str, Any] = {}
        for name, ref in pending.items():
            try:
                answers[name] = ray.get(ref, timeout=max(0.0, deadline - time.monotonic()))
            except (RayError, GetTimeoutError) as error:
                if check is None:
                    answers[name] = _cause(error)
                else:
                    why = (
                        f"no answer within {limit_s:.0f} s"
                        if isinstance(error, GetTimeoutError)
                        else _first_line(error)
                    )
                    self.findings.append(Finding(check, name, "failure", why, remedy))
        return answers

    def _in_time(self, actor: Any, deadline: float) -> Callable[[], float]:
        return lambda: ray.get(actor.now.remote(), timeout=max(0.1, deadline - time.monotonic()))

    def _note(self, node: str, check: str, results: Iterable[Result]) -> None:
        self.findings += [Finding(check, node, *result) for result in results]


def _cause(error: Exception) -> Exception:
    if isinstance(error, GetTimeoutError):
        return TimeoutError("no answer in time")
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
