"""Specification of a cluster, from which its files are rendered: one value per field, all checked at once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any

from orchestrator.common.errors import BadMachine
from orchestrator.common.redaction import has_secret

Check = Callable[[Any], bool]
HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
IPV6 = re.compile(r"[0-9A-Fa-f:]*:[0-9A-Fa-f:]+")
LABEL = re.compile(r"(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?")
WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,+-]*")
IMAGE = re.compile(
    r"[a-z0-9][a-z0-9._-]*(:\d+)?(/[a-z0-9][a-z0-9._-]*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
DATABASE = re.compile(r"(postgresql|mysql)(\+\w+)?://[^\s'\"]+")
WEB = re.compile(r"https?://[^\s'\"]+")


def _field(default: Any, meaning: str, expected: str, check: Check) -> Any:
    return field(default=default, metadata={"meaning": meaning, "expected": expected, "check": check})


def _count(default: int | None, meaning: str, low: int, high: int) -> Any:
    expected = f"a whole number from {low:,} to {high:,}"
    return _field(default, meaning, expected, lambda value: isinstance(value, int) and low <= value <= high)


def _text(default: str | None, meaning: str, expected: str, pattern: re.Pattern[str]) -> Any:
    return _field(default, meaning, expected, lambda value: pattern.fullmatch(value) is not None)


def _path(default: str | None, meaning: str) -> Any:
    expected = "a path that begins with / or ~/, of printable characters"
    return _field(
        default, meaning, expected, lambda value: value.isprintable() and value.startswith(("/", "~/"))
    )


def _host(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (HOST, IPV6))


@dataclass(frozen=True)
class Cluster:
    """Values of a cluster. Raises `BadMachine` with all invalid ones, by their options."""

    nodes: int = _count(2, "Nodes", 1, 4096)
    gpus: int = _count(8, "GPUs per node", 0, 64)
    gpu_type: str = _text("V100", "Name of the GPU for SkyPilot", "letters, digits and _ . , + -", WORD)
    cpus: int = _count(48, "CPU cores to use on each node", 1, 4096)
    memory_gb: int = _count(192, "Memory to use on each node, in GiB", 1, 65536)
    shm_gb: int = _count(64, "Shared memory per node for Ray's objects, in GiB", 1, 65536)
    hours: float = _field(
        24.0,
        "Time limit of the job in hours",
        "a number from 0.1 to 8,760",
        lambda value: math.isfinite(value) and 0.1 <= value <= 8760,
    )
    name: str = _text(
        "polyps", "Name of the cluster or job", "lower-case letters, digits and -, 63 at most", LABEL
    )
    home: str = _path("~/.orchestrator", "Folder of datasets, studies and MLflow; shared by all nodes")
    cache: str | None = _path(None, "Folder for decoded images, on a fast local disk. Default: HOME/cache")
    venv: str = _path(
        "~/polyps/.venv", "Virtual environment with this package, at the same path on all nodes"
    )
    folder: str = _path("~/polyps", "Working folder of searches that run as jobs, on the head")
    port: int = _count(6379, "Port of Ray's head", 1024, 65535)
    dashboard_port: int = _count(
        8265, "Port of Ray's dashboard, on the head's loopback interface", 1024, 65535
    )
    mlflow_port: int = _count(5000, "Port of the MLflow server", 1024, 65535)
    mlflow_host: str = _field(
        "127.0.0.1", "Address that the MLflow server listens on", "a host or address", _host
    )
    allowed_hosts: tuple[str, ...] = _field(
        (),
        "Another host:port at which users reach the MLflow server; repeat for several",
        "host or host:port, each once",
        lambda names: all(_host(name.rsplit(":", 1)[0]) for name in names) and len(set(names)) == len(names),
    )
    tracking_uri: str | None = _text(
        None, "MLflow server that the search reports to. Default: SQLite in HOME", "http(s)://host:port", WEB
    )
    head: str = _field("10.0.0.1", "Host of Ray's head", "a host name or address", _host)
    workers: tuple[str, ...] = _field(
        ("10.0.0.2", "10.0.0.3", "10.0.0.4"),
        "Host of another node; repeat for several",
        "host names or addresses, each once",
        lambda hosts: all(map(_host, hosts)) and len(set(hosts)) == len(hosts),
    )
    user: str = _text("ubuntu", "User to log in as over ssh", "a user name", WORD)
    ssh_key: str = _path("~/.ssh/id_ed25519", "Private key of that user")
    partition: str | None = _text(None, "Slurm's partition", "letters, digits and _ . , + -", WORD)
    account: str | None = _text(None, "Slurm's account", "letters, digits and _ . , + -", WORD)
    image: str = _text(
        "registry.example.org/polyps:0.1.0", "Image with this package", "registry/name:tag", IMAGE
    )
    namespace: str = _text(
        "polyps", "Kubernetes namespace", "lower-case letters, digits and -, 63 at most", LABEL
    )
    queue: str = _text("polyps", "Kueue's local queue", "lower-case letters, digits and -, 63 at most", LABEL)
    storage_class: str | None = _text(
        None,
        "Kubernetes storage class that many nodes can write to. Default: the cluster's",
        "its name",
        HOST,
    )
    storage_gb: int = _count(500, "Size of the volume at HOME, in GiB", 1, 1_000_000)
    database: str = _text(
        "postgresql://polyps@localhost/mlflow",
        "Database of the MLflow server; its password stays in ~/.pgpass",
        "postgresql://user@host/name without a password",
        DATABASE,
    )
    search: tuple[str, ...] = _field(
        ("search_spaces/unet.toml", "--data", "Kvasir-SEG", "--trials", "40"),
        "Arguments of `orchestrator search`",
        "words of printable characters",
        lambda words: bool(words) and all(word.isprintable() for word in words),
    )

    def __post_init__(self) -> None:
        problems = [text for one in fields(self) if (text := _problem(one, getattr(self, one.name)))]
        if problems:
            raise BadMachine("cluster", problems)


def option(name: str) -> str:
    """The command-line option of a field."""
    singular = {"search": "words after --", "workers": "--worker", "allowed_hosts": "--allowed-host"}
    return singular.get(name, "--" + name.replace("_", "-"))


def _problem(one: Field[Any], value: Any) -> str | None:
    if value is None and one.default is None:
        return None
    shown = " ".join(value) if isinstance(value, tuple) else str(value)
    if has_secret(shown):
        return f"{option(one.name)}: expected no password or token, since the file would show it, found one"
    if one.metadata["check"](value):
        return None
    return f"{option(one.name)}: expected {one.metadata['expected']}, found {shown or 'nothing'}"
