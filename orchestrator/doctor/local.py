"""The checks of one node, as a plain function: called on this machine, or by an actor."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from orchestrator.doctor.checks import datasets, gpu, network, packages, shared_home
from orchestrator.doctor.checks import resources as resources
from orchestrator.doctor.checks.findings import Check, Finding, run_checks
from orchestrator.doctor.checks.shared_home import Token

# Limits in seconds; the slowest check reads every file of the datasets.
DATA_S, QUERY_S, DISK_S = 120.0, 30.0, 15.0
LONGEST_S = max(DATA_S, QUERY_S, DISK_S)
READ_FIRST = (
    "each node reads every file of a dataset once: `orchestrator data check` there shows how long that takes; check "
    "whether its disk or network file system hangs"
)


@dataclass(frozen=True)
class Request:
    """Scope of the checks on a node, with the driver's state to compare with."""

    home: Path
    cache: Path
    driver: packages.Installed
    uses_gpus: bool = True
    token: Token | None = None  # None: there is a single node
    data: Mapping[str, str] = field(default_factory=dict)  # name -> fingerprint
    is_tracked_in_home: bool = False  # whether there is no MLflow server
    peers: Mapping[str, network.Address] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)  # of Ray, on this node
    has_token: bool = False


def check_node(node: str, request: Request) -> list[Finding]:
    """Findings of every check of this node, within `LONGEST_S`, whatever hangs."""
    return run_checks(node, checks(node, request))


def checks(node: str, request: Request) -> list[Check]:
    home, cache = request.home, request.cache
    folders = {"home": home, "cache": cache, "tmp": Path(tempfile.gettempdir())}
    found = [
        Check("packages", partial(packages.compare, request.driver), DISK_S),
        Check("memory", resources.memory),
        Check("disk", partial(resources.disks, folders), DISK_S),
        Check("/dev/shm", resources.shared_memory),
        Check("limits", resources.limits),
        Check("home", partial(shared_home.writable, home), DISK_S),
        Check("cache", partial(shared_home.writable, cache), DISK_S),
        Check("file systems", partial(shared_home.places, home, cache, request.is_tracked_in_home)),
    ]
    if request.token is not None:
        found += [
            Check("same home", partial(shared_home.same, request.token, node), DISK_S),
            Check("locks", partial(shared_home.locks, request.token), DISK_S),
        ]
    if request.uses_gpus:
        found += [
            Check("GPU architecture", gpu.architectures, QUERY_S),
            Check("GPU driver", gpu.driver, QUERY_S),
            Check("GPU memory", gpu.memory, QUERY_S),
        ]
    if request.data:
        found.append(Check("data", partial(datasets.equal, home, cache, request.data), DATA_S, READ_FIRST))
    if request.peers:
        found.append(Check("network", partial(network.reachable, request.peers), QUERY_S))
    if request.ports:
        found.append(Check("ports", partial(network.exposed, request.ports, request.has_token)))
    return found


def num_gpus() -> int:
    """Number of GPUs visible to PyTorch."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
