"""The machine or cluster that a study runs on: how it is reached, and how fits spread over it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.exceptions import AuthenticationError

from orchestrator.errors import BadMachine
from orchestrator.search.width import possible_widths
from orchestrator.training.lane import Shape
from orchestrator.training.process import KEEP_FREED_MEMORY

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

    def __post_init__(self) -> None:
        if self.address.startswith("ray://"):
            raise BadMachine(
                "--address",
                f"a study does not run through a Ray client, found {self.address}; submit the same command with "
                "`ray job submit`, or run it on a node of the cluster with --address auto",
            )
        if self.fits_per_gpu > 1 and (self.workers_per_fit or 1) > 1:
            raise BadMachine(
                "--fits-per-gpu",
                f"{self.fits_per_gpu} fits can share a GPU where each has one worker, found --workers-per-fit "
                f"{self.workers_per_fit}; a fit that is given several GPUs needs them whole",
            )


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Connect to Ray, or start it on this machine, and leave it as it was found."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the ledger keeps what Tune would log
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's new output prints even at verbose=0
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # ours drains the lanes first
    for name, value in KEEP_FREED_MEMORY.items():  # for the workers of a Ray that is started here
        os.environ.setdefault(name, value)
    try:
        ray.init(
            address=None if address == "auto" else address,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except AuthenticationError as error:
        raise BadMachine("RAY_AUTH_MODE", str(error)) from error
    except (ConnectionError, ValueError) as error:  # nobody there, or no address
        token = "" if "RAY_AUTH_MODE" in os.environ else "; if it wants a token, set RAY_AUTH_MODE=token"
        raise BadMachine("--address", f"no Ray cluster answers at {address}: {error}{token}") from error
    try:
        yield
    finally:
        ray.shutdown()


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
