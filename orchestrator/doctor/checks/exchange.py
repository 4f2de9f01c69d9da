"""A small all-reduce among processes, as for gradients of data-parallel fits: the sum is checked, the time measured.

Run as a module, this is one of the processes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from orchestrator.common.files import size_text
from orchestrator.doctor.checks.findings import Result, failure, ok, warning
from orchestrator.doctor.checks.isolated_process import Failed, run_isolated
from orchestrator.doctor.checks.network import free_port

NUM_FLOATS = 4 * 2**20
TIMES = 3
LIMIT_S = 60.0
SLOW = {"gloo": 20e6, "nccl": 200e6}  # bytes per second: a gradient of 100 MB would take seconds


@dataclass(frozen=True)
class ExchangeProcess:
    """Configuration of one process of the all-reduce."""

    rank: int
    size: int
    host: str  # of rank 0
    port: int
    backend: Literal["gloo", "nccl"]
    gpu: int = 0
    limit_s: float = LIMIT_S


def take_part(part: ExchangeProcess, interface: str = "") -> dict[str, Any]:
    """Run one process of the all-reduce; returns its answer. Raises `TimeoutError` and `Failed`."""
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    return run_isolated(
        __name__, asdict(part), part.limit_s, dict.fromkeys(names, interface) if interface else None
    )


def backend_of(num_gpus: Sequence[int], device: str) -> Literal["gloo", "nccl"]:
    """NCCL if every process has a GPU, otherwise gloo."""
    return "nccl" if device != "cpu" and min(num_gpus) > 0 else "gloo"


def parts(hosts: Sequence[str], port: int, backend: Literal["gloo", "nccl"]) -> list[ExchangeProcess]:
    """One process for each host, on its first GPU; for a single repeated host, one for each GPU."""
    is_one = len(set(hosts)) == 1
    return [
        ExchangeProcess(rank, len(hosts), hosts[0], port, backend, gpu=rank if is_one else 0)
        for rank in range(len(hosts))
    ]


def among(each: Sequence[Callable[[], dict[str, Any]]]) -> list[dict[str, Any] | Exception]:
    """Run all processes at the same time; returns the answer or the error of each."""

    def answer(take: Callable[[], dict[str, Any]]) -> dict[str, Any] | Exception:
        try:
            return take()
        except (Failed, TimeoutError) as error:
            return error

    with ThreadPoolExecutor(len(each)) as pool:
        return [*pool.map(answer, each)]


def alone(num_gpus: int, device: str, interface: str = "lo") -> list[Result]:
    """Results of an all-reduce among this machine's GPUs, or two CPU processes if none; [] for one GPU."""
    count = num_gpus if device != "cpu" else 0
    if count == 1:
        return []
    hosts = ["127.0.0.1"] * (count or 2)
    each = parts(hosts, free_port(hosts[0]), backend_of([count], device))
    answers = among([partial(take_part, part, interface) for part in each])
    wrong = [answer for answer in answers if isinstance(answer, Exception) or not answer["is_right"]]
    return [*judge((wrong or answers)[0], each[0], interface)]


def judge(answer: dict[str, Any] | Exception, part: ExchangeProcess, interface: str) -> Iterator[Result]:
    """Results for one answer of an all-reduce; `interface`: that of the node's address, or the chosen one."""
    among_all = f"{part.backend} among {part.size} processes"
    name = f"{'NCCL' if part.backend == 'nccl' else 'GLOO'}_SOCKET_IFNAME"
    remedy = (
        f"set the interface of the nodes' common network where `ray start` is run, with {name}={interface or 'eth0'}, "
        "and open their ports to each other"
    )
    if part.backend == "nccl":
        remedy += "; NCCL_DEBUG=INFO logs details, NCCL_P2P_DISABLE=1 or NCCL_IB_DISABLE=1 are workarounds"
    if isinstance(answer, Exception):
        yield failure(f"{among_all}: {answer}", remedy)
    elif not answer["is_right"]:
        yield failure(
            f"{among_all}: the sum is wrong", "have the network cards, or the links between GPUs, checked"
        )
    else:
        rate = 2 * (part.size - 1) / part.size * NUM_FLOATS * 4 / answer["seconds"]
        found = f"{among_all}: {size_text(rate)} per second{f' over {interface}' if interface else ''}"
        yield warning(f"{found}, slow for gradients", remedy) if rate < SLOW[part.backend] else ok(found)


def main(part: ExchangeProcess) -> dict[str, Any]:
    import torch
    import torch.distributed as dist

    device = torch.device("cuda", part.gpu) if part.backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        part.backend,
        init_method=f"tcp://[{part.host}]:{part.port}"
        if ":" in part.host
        else f"tcp://{part.host}:{part.port}",
        rank=part.rank,
        world_size=part.size,
        timeout=timedelta(seconds=part.limit_s),
    )
    seconds, is_right = [], True
    for _ in range(TIMES):
        values = torch.full((NUM_FLOATS,), float(part.rank + 1), device=device)
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(values)
        is_right = is_right and bool((values == part.size * (part.size + 1) / 2).all())  # waits for the GPU
        seconds.append(time.perf_counter() - started)
    dist.destroy_process_group()
    return {"seconds": min(seconds), "is_right": is_right}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(json.dumps(main(ExchangeProcess(**json.loads(sys.argv[1])))), flush=True)
    os._exit(0)  # libraries may hang at exit
