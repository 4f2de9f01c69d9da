"""All checks, in the order in which they can be made: the driver's own, those of every node, those among nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
from orchestrator.doctor.checks.shared_home import Token
from orchestrator.ray_cluster.machine import Head, Machine, named_head

DRIVER_S = 30.0
# All ends within so many seconds, whatever hangs.
LONGEST_S = DRIVER_S + cluster.LONGEST_S + 30.0


@dataclass(frozen=True)
class Asked:
    """What is to be looked at."""

    home: Path
    cache: Path
    address: str = "auto"
    device: str = "auto"
    data: Sequence[str] = ()
    storage: str | None = None
    tracking_uri: str | None = None  # without a password; None: MLflow's database in the home
    space: str = step.SPACE  # text of a file
    interface: str = ""  # of the all-reduce; empty: what gloo and nccl take


def examine(asked: Asked, found: list[Finding], stage: Callable[[str], None] = lambda name: None) -> None:
    """Append findings to `found` as they come. Raises `UserError` for what is no address or no dataset."""
    driver = shared_home.host()
    Machine(asked.address)  # refuses what is no address of a study
    head = named_head(asked.address)
    stage("this machine")
    (home,) = run_checks(driver, [Check("home", partial(shared_home.writable, asked.home), local.DISK_S)])
    if "no answer" in home.found:  # nothing can be done where it hangs
        found.append(home)
        return
    fingerprints = datasets.fingerprints(asked.home, asked.data)
    joins = head.address is not None and _answers(driver, head, found)
    found += run_checks(driver, [*_of_driver(asked)])
    with ExitStack() as stack:
        shared = None
        with suppress(OSError):  # a home that cannot be written to is a finding of every node
            shared = stack.enter_context(shared_home.token_in(asked.home))
        request = local.Request(
            home=asked.home,
            cache=asked.cache,
            driver=packages.installed(),
            uses_gpus=asked.device != "cpu",
            token=shared,
            data=fingerprints,
            is_tracked_in_home=asked.tracking_uri is None,
            has_token=token.is_on(),
        )
        if joins and head.address is not None:
            _cluster(asked, head.address, request, found, stage)
        elif head.address is None or head.source != "--address":  # as a search would
            _alone(asked, request, found, stage)


def _of_driver(asked: Asked) -> Iterator[Check]:
    uri = asked.tracking_uri or f"sqlite:///{asked.home / 'mlflow.db'}"
    yield Check("MLflow", partial(tracking_server.reachable, uri), DRIVER_S)
    if asked.storage is not None:
        yield Check("database", partial(database.answers, asked.storage), DRIVER_S)


def _answers(driver: str, head: Head, found: list[Finding]) -> bool:
    """Whether a head that is named is there."""
    silence = why_silent(head.address or "", is_grpc=True)
    if silence is None:
        found.append(
            Finding("head", driver, *ok(f"the head at {head.address}, which {head.source} names, answers"))
        )
        return True
    told = f"no Ray cluster answers at {head.address}, which {head.source} names: {silence}"
    is_old_file = head.source.startswith("ray_current")
    result = (
        warning(f"{told}; a search starts Ray here", head.remedy)
        if is_old_file
        else failure(told, head.remedy)
    )
    found.append(Finding("head", driver, *result))
    return False


def _alone(asked: Asked, request: local.Request, found: list[Finding], stage: Callable[[str], None]) -> None:
    """This machine, as a search that starts Ray here would find it."""
    node = shared_home.host()
    found += run_checks(node, [Check("token", partial(token.sound, True)), Check("ports", network.free)])
    found += local.look(node, request)
    stage("all-reduce")
    found += [
        Finding("all-reduce", node, *one)
        for one in exchange.alone(local.num_gpus(), asked.device, asked.interface or "lo")
    ]
    stage("a training step")
    timed = exchange.among([partial(step.timed, asked.space, asked.device)])
    found += [Finding("step", node, *one) for one in step.judge(node, {node: timed[0]})]


def _cluster(
    asked: Asked, address: str, request: local.Request, found: list[Finding], stage: Callable[[str], None]
) -> None:
    stage(f"the cluster at {address}")
    driver = shared_home.host()
    try:
        with cluster.joined(address):
            living = cluster.nodes()
            found += run_checks(driver, [Check("token", partial(token.sound, False, len(living)))])
            examined = cluster.Cluster(living, found)
            examined.start()
            examined.clocks()
            stage(f"{len(living)} nodes")
            examined.look(request)
            stage("all-reduce")
            examined.exchange(asked.interface, asked.device)
            stage("a training step on each")
            examined.steps(asked.space, asked.device)
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
            f"the driver does not see what this node wrote into {shared.path.parent}",
            "mount the same file system there on all nodes",
        )
