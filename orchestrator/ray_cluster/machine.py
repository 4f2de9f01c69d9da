"""The machine or cluster that a study runs on: how it is reached, and how fits spread over it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import torch
from ray.exceptions import AuthenticationError

from orchestrator.common.allocator import KEEP_FREED_MEMORY
from orchestrator.common.environment import environment
from orchestrator.common.errors import BadMachine
from orchestrator.common.hosts import refuse_user, why_silent
from orchestrator.common.interruption import held_back, listen_again
from orchestrator.common.private_api import private
from orchestrator.ray_cluster.claims import claimed
from orchestrator.ray_cluster.head import head_watched
from orchestrator.ray_cluster.private_ray import shut_off, temp_folder
from orchestrator.search.forecast.width import possible_widths
from orchestrator.training.ray.lanes import Shape

logger = logging.getLogger(__name__)
# Cores that stay free for trials, the dispatcher and Ray itself.
CPU_SHARE = 0.9


@dataclass(frozen=True)
class Machine:
    """Where a study runs and how it spreads; none of it changes a result."""

    address: str = (
        "auto"  # "auto": a running cluster, else this machine; "local"; or a head node's "host:port"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers_per_fit: int | None = None  # None: what the plan chooses on several GPUs, else 1
    num_lanes: int | None = None  # at most; None: as many as there is room for
    fits_per_gpu: int = 1

    @property
    def num_gpus(self) -> int | None:
        """GPUs of one machine that it needs at most; None: as many as there are."""
        if self.num_lanes is None or (self.workers_per_fit is None and self.fits_per_gpu == 1):
            return None
        return -(-self.num_lanes * (self.workers_per_fit or 1) // self.fits_per_gpu)

    def __post_init__(self) -> None:
        refuse_user(self.address)
        if self.address.startswith("ray://"):
            raise BadMachine(
                "--address",
                f"a study does not run through a Ray client, found {self.address}; make the same command a job with "
                f"`orchestrator submit`, or run it on a node of the cluster with "
                "--address auto",
            )
        if self.fits_per_gpu > 1 and (self.workers_per_fit or 1) > 1:
            raise BadMachine(
                "--fits-per-gpu",
                f"{self.fits_per_gpu} fits can share a GPU where each has one worker, found --workers-per-fit "
                f"{self.workers_per_fit}; a fit that is given several GPUs needs them whole",
            )


@contextmanager
def cluster(machine: Machine) -> Iterator[None]:
    """Connect to Ray, or start it on this machine, and leave it as it was found.

    A Ray that is started here takes the cores and GPUs that this process may use and that no other search has.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the ledger keeps what Tune would log
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's new output prints even at verbose=0
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # ours drains the lanes first
    for name, value in KEEP_FREED_MEMORY.items():  # for the workers of a Ray that is started here
        os.environ.setdefault(name, value)
    with ExitStack() as stack:
        address = reach_cluster(machine.address)
        options = {"address": address} if address is not None else stack.enter_context(_own(machine))
        stack.callback(_shut_down)
        with held_back(), _signals_stay_ours():
            _connect(options)
        stack.enter_context(_known_to_train())
        with head_watched(ray.get_runtime_context().gcs_address):
            yield


@dataclass(frozen=True)
class Head:
    """Where a cluster's head is said to be, by whom, and what to do where nobody answers there."""

    address: str | None  # None: Ray is started on this machine
    source: str
    remedy: str


def reach_cluster(address: str) -> str | None:
    """The "host:port" of the Ray that runs already and answers; None where one is to be started on this machine.

    Raises `BadMachine` if nobody answers at an address that was named, within seconds.
    """
    head = named_head(address)
    if head.address is None or (silence := why_silent(head.address, is_grpc=True)) is None:
        return head.address
    if head.source == "--address":
        raise BadMachine("--address", f"no Ray cluster answers at {address}: {silence}; {head.remedy}")
    logger.warning(
        "no Ray cluster answers at %s, which %s names (%s): Ray is started on this machine; %s",
        head.address,
        head.source,
        silence,
        head.remedy,
    )
    return None


def named_head(address: str) -> Head:
    """Where Ray would look for a cluster. Raises `BadMachine` for an address that a study does not run at."""
    if address == "local":
        return Head(None, "--address", "")
    if address != "auto":
        return Head(address, "--address", "start it there, or leave --address out")
    named = os.environ.get("RAY_ADDRESS", "")
    if named == "local":
        return Head(None, "RAY_ADDRESS", "")
    source, remedy = "RAY_ADDRESS", "start it there, or `unset RAY_ADDRESS`"
    if named in ("", "auto"):
        named = _started_earlier()
        source = "ray_current_cluster of an earlier `ray start`"
        remedy = f"start it again, or `rm {private('get_ray_address_file')(None)}`"
    Machine(named or "auto")  # refuses ray://
    return Head(named or None, source, remedy)


def _started_earlier() -> str:
    """What the last `ray start` on this machine wrote down; "" if nothing, or if it was another user's."""
    address = private("find_bootstrap_address")(None) or ""
    if address and (owner := Path(private("get_ray_address_file")(None)).stat().st_uid) != os.getuid():
        logger.warning(
            "a Ray of another user (uid %d) runs at %s, and is left alone; --address %s takes it",
            owner,
            address,
            address,
        )
        return ""
    return address


@contextmanager
def _own(machine: Machine) -> Iterator[dict[str, Any]]:
    """Options of a Ray that is started here, and what it takes of this machine for as long."""
    options: dict[str, Any] = {"address": "local", "_temp_dir": str(temp_folder())}
    gpus = [] if machine.device == "cpu" else _visible_gpus()
    with claimed(gpus, machine.num_gpus) as mine, ExitStack() as stack:
        if list(mine.gpus) != gpus:
            stack.enter_context(environment("CUDA_VISIBLE_DEVICES", ",".join(mine.gpus)))
        stack.enter_context(shut_off())
        yield options | {"num_cpus": mine.cpus}


def _visible_gpus() -> list[str]:
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in named.split(",")] if named else [str(index) for index in range(count)]
    return names[:count]


def _connect(options: dict[str, Any]) -> None:
    for name in ("ray.tune.execution.tune_controller", "ray.tune.tune"):
        # They print the traceback of every trial that fails; why it did is on record, and the search says so.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except AuthenticationError as error:
        raise BadMachine("RAY_AUTH_MODE", str(error)) from error
    except (ConnectionError, ValueError) as error:  # nobody there, or no address
        where = options["address"]
        raise BadMachine(
            "--address", f"no Ray cluster answers at {where}: {error}{_token_advice()}"
        ) from error


@contextmanager
def _known_to_train() -> Iterator[None]:
    """Tell actors of Ray Train which Ray is theirs.

    Those that watch whether a controller lives would else ask the one that was started last on their machine, be it
    another user's, and give the place of a living lane away, for that one knows no such controller.
    """
    private("train_constants").ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")
    with environment("RAY_ADDRESS", ray.get_runtime_context().gcs_address):
        yield


def _token_advice() -> str:
    return "" if "RAY_AUTH_MODE" in os.environ else "; if it wants a token, set RAY_AUTH_MODE=token"


def _shut_down() -> None:
    """A signal waits until Ray has ended."""
    with held_back():
        ray.shutdown()


@contextmanager
def _signals_stay_ours() -> Iterator[None]:
    """Ray takes SIGTERM when it starts, and would end this process with an exit code of its own."""
    utils = private("ray_utils")
    theirs = private("set_sigterm_handler")
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = theirs
        listen_again()


def shape_lanes(nodes: list[dict[str, Any]], machine: Machine, num_lanes: int | None = None) -> Shape:
    """Decide how many lanes fit the cluster: one GPU a worker where there are GPUs, else one core or more.

    Where fits share a GPU, each of its workers takes its part of the GPU and of the node's cores.
    `--device cpu` on nodes that announce GPUs still takes one a worker, so that a big cluster can be rehearsed on a
    small machine. Raises `BadMachine` if not even one lane fits.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    with_gpus = [node for node in resources if node.get("GPU", 0) >= 1]
    if machine.device == "cuda" and not with_gpus:
        raise BadMachine("--device", "cuda needs a node with a GPU, found none; use --device cpu")
    if machine.fits_per_gpu > 1 and not with_gpus:
        raise BadMachine("--fits-per-gpu", "fits can share a GPU on a node that has one, found none")
    unit = "GPU" if with_gpus else "CPU"
    nodes_used = with_gpus or [node for node in resources if node.get("CPU", 0) >= 1]
    slots = sum(int(node[unit]) for node in nodes_used) * machine.fits_per_gpu
    width = machine.workers_per_fit or 1
    if width > slots:
        raise BadMachine(
            "--workers-per-fit", f"{width} workers need as many {unit}s, found {slots} in the cluster"
        )
    lanes = min(num_lanes or machine.num_lanes or slots // width, slots // width)
    cpus = min(
        CPU_SHARE * node.get("CPU", 1) / (int(node[unit]) * machine.fits_per_gpu) for node in nodes_used
    )
    if unit == "CPU" and len(nodes_used) == 1:  # idle cores of a single node go to the workers there are
        cpus = CPU_SHARE * slots / (lanes * width)
    return Shape(
        num_lanes=lanes,
        workers_per_lane=width,
        cpus_per_worker=round(cpus, 2),
        gpus_per_worker=_part_of_gpu(machine.fits_per_gpu) if with_gpus else 0,
        device="cuda" if with_gpus and machine.device != "cpu" else "cpu",
    )


def open_widths(
    nodes: list[dict[str, Any]], machine: Machine, networks: Sequence[str], batch_sizes: Sequence[int]
) -> tuple[int, ...]:
    """Widths to choose from: none where one was asked for, and where no node has several GPUs."""
    if machine.workers_per_fit is not None or machine.fits_per_gpu > 1:
        return ()
    if shape_lanes(nodes, machine, num_lanes=1).device == "cpu":
        return ()
    widths = possible_widths(networks, batch_sizes, _most_gpus(nodes))
    return widths if len(widths) > 1 else ()


def _most_gpus(nodes: list[dict[str, Any]]) -> int:
    """Of one node: the workers of a fit stay together, for what nodes say to each other is not measured."""
    return max(int(node["Resources"].get("GPU", 0)) for node in nodes if node["Alive"])


def _part_of_gpu(num_fits: int) -> float:
    """1 / num_fits in the ten-thousandths that Ray counts in, and never too much."""
    return (10_000 // num_fits) / 10_000
