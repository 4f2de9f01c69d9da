"""All checks in order: of the driver, of every node, between nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.common.display import counted
from orchestrator.common.errors import BadMachine
from orchestrator.common.hosts import why_silent
from orchestrator.doctor import cluster, local
from orchestrator.doctor.checks import (
    database,
    datasets,
    exchange,
    network,
    packages,
    shared_home,
    step,
    token,
    tracking_server,
)
from orchestrator.doctor.checks.findings import Check, Finding, Result, failure, ok, run_checks, warning
from orchestrator.doctor.checks.isolated_process import Failed
from orchestrator.doctor.checks.shared_home import Token
from orchestrator.ray_cluster.machine import Head, Machine, named_head

DRIVER_S = 30.0
# Limit in seconds of the whole examination, whatever hangs.
LONGEST_S = DRIVER_S + cluster.LONGEST_S + 30.0


@dataclass(frozen=True)
class Scope:
    """Options of an examination."""

    home: Path
    cache: Path
    address: str = "auto"
    device: str = "auto"
    data: Sequence[str] = ()
    storage: str | None = None
    tracking_uri: str | None = None  # without a password; None: MLflow's database in the home
    space: str = step.SPACE  # content of a file
    interface: str = ""  # of the all-reduce; empty: the default of gloo and nccl


def examine(scope: Scope, found: list[Finding], stage: Callable[[str], None] = lambda name: None) -> None:
    """Append findings to `found` as they come. Raises `UserError` for an invalid address or an unknown dataset."""
    driver = shared_home.host()
    Machine(scope.address)  # rejects an invalid address
    head = named_head(scope.address)
    stage("this machine")
    (home,) = run_checks(driver, [Check("home", partial(shared_home.writable, scope.home), local.DISK_S)])
    if "no answer" in home.found:  # nothing can be done with a hanging home
        found.append(home)
        return
    fingerprints = datasets.fingerprints(scope.home, scope.data)
    joins = head.address is not None and _answers(driver, head, found)
    found += run_checks(driver, [*_of_driver(scope)])
    with ExitStack() as stack:
        shared = None
        with suppress(OSError):  # a home that is not writable is a finding of every node
            shared = stack.enter_context(shared_home.token_in(scope.home))
        request = local.Request(
            home=scope.home,
            cache=scope.cache,
            driver=packages.installed(),
            uses_gpus=scope.device != "cpu",
            token=shared,
            data=fingerprints,
            is_tracked_in_home=scope.tracking_uri is None,
            has_token=token.is_on(),
        )
        if joins and head.address is not None:
            _cluster(scope, head.address, request, found, stage)
        elif head.address is None or head.source != "--address":  # as a search would
            _alone(scope, request, found, stage)


def _of_driver(scope: Scope) -> Iterator[Check]:
    uri = scope.tracking_uri or f"sqlite:///{scope.home / 'mlflow.db'}"
    yield Check("MLflow", partial(tracking_server.reachable, uri), DRIVER_S)
    if scope.storage is not None:
        yield Check("database", partial(database.answers, scope.storage), DRIVER_S)


def _answers(driver: str, head: Head, found: list[Finding]) -> bool:
    """Whether a head that is named answers; the finding is appended to `found`."""
    silence = why_silent(head.address or "", is_grpc=True)
    if silence is None:
        found.append(Finding("head", driver, *ok(f"the head at {head.address} (from {head.source}) answers")))
        return True
    text = f"no Ray cluster answers at {head.address} (from {head.source}): {silence}"
    is_old_file = head.source.startswith("ray_current")
    result = (
        warning(f"{text}; a search starts Ray here", head.remedy)
        if is_old_file
        else failure(text, head.remedy)
    )
    found.append(Finding("head", driver, *result))
    return False


def _alone(scope: Scope, request: local.Request, found: list[Finding], stage: Callable[[str], None]) -> None:
    """Check this machine, where a search would start Ray."""
    node = shared_home.host()
    found += run_checks(node, [Check("token", partial(token.sound, True)), Check("ports", network.free)])
    found += local.check_node(node, request)
    stage("all-reduce")
    found += [
        Finding("all-reduce", node, *one)
        for one in exchange.alone(local.num_gpus(), scope.device, scope.interface or "lo")
    ]
    stage("a training step")
    found += [Finding("step", node, *one) for one in step.judge(node, {node: _steps(scope)})]


def _steps(scope: Scope) -> list[dict[str, Any]] | Exception:
    try:
        return step.timed(scope.space, scope.device)
    except (Failed, TimeoutError) as error:
        return error


def _cluster(
    scope: Scope, address: str, request: local.Request, found: list[Finding], stage: Callable[[str], None]
) -> None:
    stage(f"the cluster at {address}")
    driver = shared_home.host()
    try:
        with cluster.joined(address):
            living = cluster.nodes()
            found += run_checks(driver, [Check("token", partial(token.sound, False, len(living)))])
            examined = cluster.ExaminedCluster(living, found)
            examined.start()
            examined.clocks()
            stage(f"{counted(len(living), 'node')}")
            examined.check_node(request)
            stage("all-reduce")
            examined.exchange(scope.interface, scope.device)
            stage("a training step on each")
            examined.steps(scope.space, scope.device)
            if request.token is not None:
                found += [
                    Finding("same home", name, *one)
                    for name in examined.actors
                    for one in _back(request.token, name)
                ]
    except BadMachine as error:
        found.append(Finding("Ray", driver, *failure("; ".join(error.problems), f"see {error.where}")))


def _back(shared: Token, node: str) -> Iterator[Result]:
    if not shared_home.answered(shared, node):
        yield failure(
            f"the driver does not see what this node wrote to {shared.path.parent}",
            "mount the same file system there on all nodes",
        )
