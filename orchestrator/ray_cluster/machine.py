"""The machine or cluster of a study: connection to Ray, and distribution of fits."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import torch
from ray.exceptions import AuthenticationError

from orchestrator.common.allocator import KEEP_FREED_MEMORY
from orchestrator.common.cpus import NICENESS_OF_STARTER, limit_spinning
from orchestrator.common.errors import BadMachine
from orchestrator.common.hosts import refuse_user, why_silent
from orchestrator.common.interruption import held_back, reinstall_handlers
from orchestrator.common.private_api import private
from orchestrator.launch.environment import environment
from orchestrator.ray_cluster.claims import claimed
from orchestrator.ray_cluster.head import head_watched
from orchestrator.ray_cluster.private_ray import isolated, temp_folder
from orchestrator.search.forecast.width import possible_widths
from orchestrator.training.ray.lanes import Shape

logger = logging.getLogger(__name__)
# Share of cores for fits; the rest is for trials, the dispatcher and Ray itself.
CPU_SHARE = 0.9


@dataclass(frozen=True)
class Machine:
    """Machine or cluster of a study, and the distribution of its fits; no field changes a result."""

    # "auto": a running cluster, else this machine; "local"; or a head node's "host:port"
    address: str = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers_per_fit: int | None = None  # None: the plan's choice with several GPUs, else 1
    num_lanes: int | None = None  # maximum; None: as many as fit
    fits_per_gpu: int = 1

    @property
    def num_gpus(self) -> int | None:
        """Largest number of GPUs of one machine that the study needs; None: all."""
        if self.num_lanes is None or (self.workers_per_fit is None and self.fits_per_gpu == 1):
            return None
        return -(-self.num_lanes * (self.workers_per_fit or 1) // self.fits_per_gpu)

    def __post_init__(self) -> None:
        refuse_user(self.address)
        if self.address.startswith("ray://"):
            raise BadMachine(
                "--address",
                f"a study does not run through a Ray client, found {self.address}; submit the same command as a job "
                "with `orchestrator submit`, or run it on a node of the cluster with --address auto",
            )
        self._refuse_none()
        if self.fits_per_gpu > 1 and (self.workers_per_fit or 1) > 1:
            raise BadMachine(
                "--fits-per-gpu",
                f"{self.fits_per_gpu} fits can share a GPU if each has one worker, found --workers-per-fit "
                f"{self.workers_per_fit}; a fit on several GPUs needs them whole",
            )

    def _refuse_none(self) -> None:
        counts = {
            "--workers-per-fit": self.workers_per_fit,
            "--lanes": self.num_lanes,
            "--fits-per-gpu": self.fits_per_gpu,
        }
        given = {name: count for name, count in counts.items() if count is not None}
        if small := [
            f"{name}: expected at least 1, found {count}" for name, count in given.items() if count < 1
        ]:
            raise BadMachine("machine", small)


# Processes that Ray starts at a time. By default as many as cores; with four times as many it warns, as on two cores,
# where every search has more.
AT_ONCE, LEAST_AT_ONCE = "RAY_worker_maximum_startup_concurrency", 8
# Whether Train starts a process for every lane that checks every few seconds which nodes will be taken away.
WATCHES_NODES = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"


@contextmanager
def cluster(machine: Machine) -> Iterator[None]:
    """Context connected to Ray, which is started on this machine if necessary, and left as it was found.

    A Ray started here uses the cores and GPUs that are available to this process and not claimed by other searches.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the ledger records what Tune would log
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's new output prints even at verbose=0
    if not sys.stderr.isatty():
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # no terminal commands in a log file
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # ours drains the lanes first
    limit_spinning()
    of_workers = KEEP_FREED_MEMORY | NICENESS_OF_STARTER  # of a Ray started here
    for name, value in of_workers.items():
        os.environ.setdefault(name, value)
    with ExitStack() as stack:
        address = reach_cluster(machine.address)
        options = {"address": address} if address is not None else stack.enter_context(_own(machine))
        stack.callback(shut_down)
        with held_back(), _signals_stay_ours():
            _connect(options)
        stack.enter_context(_known_to_train())
        with head_watched(ray.get_runtime_context().gcs_address):
            yield


@dataclass(frozen=True)
class Head:
    """Address of a cluster's head, the source of the address, and a remedy if it does not answer."""

    address: str | None  # None: Ray is started on this machine
    source: str
    remedy: str


def reach_cluster(address: str) -> str | None:
    """The "host:port" of a running Ray that answers; None if one must be started on this machine.

    Raises `BadMachine` if an address given by the user does not answer within seconds.
    """
    head = named_head(address)
    if head.address is None or (silence := why_silent(head.address, is_grpc=True)) is None:
        return head.address
    if head.source == "--address":
        raise BadMachine("--address", f"no Ray cluster answers at {address}: {silence}; {head.remedy}")
    logger.warning(
        "no Ray cluster answers at %s (from %s; %s): Ray is started on this machine; %s",
        head.address,
        head.source,
        silence,
        head.remedy,
    )
    return None


def named_head(address: str) -> Head:
    """Head that Ray would connect to. Raises `BadMachine` for an address that a study cannot use."""
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
    Machine(named or "auto")  # rejects ray://
    return Head(named or None, source, remedy)


def _started_earlier() -> str:
    """The address recorded by the last `ray start` on this machine; "" if none, or if it was another user's."""
    address = private("find_bootstrap_address")(None) or ""
    if address and (owner := Path(private("get_ray_address_file")(None)).stat().st_uid) != os.getuid():
        logger.warning(
            "a Ray of another user (uid %d) at %s is not used; --address %s would use it",
            owner,
            address,
            address,
        )
        return ""
    return address


@contextmanager
def _own(machine: Machine) -> Iterator[dict[str, Any]]:
    """Context with options of a Ray started here, and its claim on this machine."""
    options: dict[str, Any] = {"address": "local", "_temp_dir": str(temp_folder())}
    gpus = [] if machine.device == "cpu" else _visible_gpus()
    with claimed(gpus, machine.num_gpus) as mine, ExitStack() as stack:
        if list(mine.gpus) != gpus:
            stack.enter_context(environment("CUDA_VISIBLE_DEVICES", ",".join(mine.gpus)))
        stack.enter_context(isolated())
        at_once = os.environ.get(AT_ONCE, str(max(LEAST_AT_ONCE, mine.cpus)))
        stack.enter_context(environment(AT_ONCE, at_once))
        # Nothing uses Ray's dashboard, which has about a dozen processes, and one machine has no node to lose alone.
        stack.enter_context(environment(WATCHES_NODES, os.environ.get(WATCHES_NODES, "0")))
        yield options | {"num_cpus": mine.cpus, "include_dashboard": False}


def _visible_gpus() -> list[str]:
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in named.split(",")] if named else [str(index) for index in range(count)]
    return names[:count]


def _connect(options: dict[str, Any]) -> None:
    for name in ("ray.tune.execution.tune_controller", "ray.tune.tune"):
        # They print the traceback of every failed trial; the reason is recorded, and the search reports it.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except AuthenticationError as error:
        raise BadMachine("RAY_AUTH_MODE", str(error)) from error
    except (ConnectionError, ValueError) as error:  # no server, or an invalid address
        where = options["address"]
        raise BadMachine(
            "--address", f"no Ray cluster answers at {where}: {error}{_token_advice()}"
        ) from error


@contextmanager
def _known_to_train() -> Iterator[None]:
    """Context that gives actors of Ray Train the address of their Ray.

    Actors that monitor controllers would otherwise use the Ray started last on their machine, maybe another
    user's, and release the resources of a living lane, because that Ray does not know its controller.
    """
    private("train_constants").ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")
    with environment("RAY_ADDRESS", ray.get_runtime_context().gcs_address):
        yield


def _token_advice() -> str:
    return "" if "RAY_AUTH_MODE" in os.environ else "; if it requires a token, set RAY_AUTH_MODE=token"


def shut_down() -> None:
    """Shut Ray down, with signals deferred, and with no collection of garbage until it is down.

    A thread that frees one of Ray's objects while the core worker ends would end the whole process.
    """
    with held_back():
        gc.collect()
        gc.disable()
        try:
            ray.shutdown()
        finally:
            gc.enable()


@contextmanager
def _signals_stay_ours() -> Iterator[None]:
    """Context in which Ray does not replace our handler of SIGTERM by one with its own exit code."""
    utils = private("ray_utils")
    theirs = private("set_sigterm_handler")
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = theirs
        reinstall_handlers()


def shape_lanes(nodes: list[dict[str, Any]], machine: Machine, num_lanes: int | None = None) -> Shape:
    """Number and resources of lanes in the cluster: one GPU per worker if there are GPUs, else one core or more.

    If fits share a GPU, each of its workers gets its part of the GPU and of the node's cores.
    `--device cpu` on nodes with GPUs still takes one per worker, so that a large cluster can be rehearsed on a
    small machine. Raises `BadMachine` if not even one lane fits.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    with_gpus = [node for node in resources if node.get("GPU", 0) >= 1]
    if machine.device == "cuda" and not with_gpus:
        raise BadMachine("--device", "cuda needs a node with a GPU, found none; use --device cpu")
    if machine.fits_per_gpu > 1 and not with_gpus:
        raise BadMachine("--fits-per-gpu", "fits can share a GPU only on nodes with GPUs, found none")
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
    if unit == "CPU" and len(nodes_used) == 1:  # idle cores of a single node are given to its workers
        cpus = CPU_SHARE * slots / (lanes * width)
    return Shape(
        num_lanes=lanes,
        workers_per_lane=width,
        cpus_per_worker=round(cpus, 2),
        gpus_per_worker=_part_of_gpu(machine.fits_per_gpu) if with_gpus else 0,
        device="cuda" if with_gpus and machine.device != "cpu" else "cpu",
    )


def open_widths(
    nodes: list[dict[str, Any]], machine: Machine, batch_sizes: Mapping[str, Sequence[int]]
) -> tuple[int, ...]:
    """Numbers of workers per fit to choose from; () if the user set it, or if no node has several GPUs.

    batch_sizes: network -> batch sizes that its trials can have.
    """
    if machine.workers_per_fit is not None or machine.fits_per_gpu > 1:
        return ()
    if shape_lanes(nodes, machine, num_lanes=1).device == "cpu":
        return ()
    widths = possible_widths(batch_sizes, _most_gpus(nodes))
    return widths if len(widths) > 1 else ()


def _most_gpus(nodes: list[dict[str, Any]]) -> int:
    """Most GPUs of one node: a fit stays on one node, since exchange between nodes is not measured."""
    return max(int(node["Resources"].get("GPU", 0)) for node in nodes if node["Alive"])


def _part_of_gpu(num_fits: int) -> float:
    """1 / num_fits rounded down to Ray's unit of one ten-thousandth."""
    return (10_000 // num_fits) / 10_000
