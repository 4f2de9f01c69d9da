"""Processes that train one fit together, as the workers of a lane do, but without Ray."""

from __future__ import annotations

import datetime
import multiprocessing
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from drawn import train
from limited_memory import Plain, every_network
from torch import multiprocessing as mp
from torch import nn

from orchestrator.common.errors import BadMachine, FitFailed
from orchestrator.data.cache.frames import CachedCases
from orchestrator.training import workers
from orchestrator.training.recipe import FitSpec
from orchestrator.training.workers import SyncBatchNorm2d

Task = Callable[[], Any]


def together(width: int, tasks: Mapping[str, Task], folder: Path) -> list[dict[str, Any]]:
    """Let `width` processes in one gloo group do the tasks in order; return the results of each rank."""
    folder.mkdir()
    # What a fit would import late costs seconds for each process: it is paid for once.
    multiprocessing.set_forkserver_preload(["orchestrator.training.fit", "torch._dynamo", "albumentations"])
    mp.start_processes(
        _worker, args=(width, dict(tasks), folder), nprocs=width, join=True, start_method="forkserver"
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(width)]


def _worker(rank: int, width: int, tasks: dict[str, Task], folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=width,
        timeout=datetime.timedelta(seconds=60),
    )
    torch.save({name: task() for name, task in tasks.items()}, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def fit(
    spec: FitSpec,
    cases: CachedCases,
    folder: Path,
    stop_at: tuple[int, ...] = (),
    micro_batch: int | None = None,
) -> Any:
    """Train a fit, interrupted after the given epochs; return its outcome, or the error that it ends with."""
    try:
        for epoch in stop_at:
            assert train(spec, cases, folder, report=lambda row, epoch=epoch: row["epoch"] < epoch) is None
        return train(spec, cases, folder, micro_batch=micro_batch)
    except (FitFailed, BadMachine) as error:
        return error


def plain_fit(*args: Any, **options: Any) -> Any:
    """A fit of a network without BatchNorm."""
    with every_network(Plain):
        return fit(*args, **options)


def batch_norm(norm: type[nn.BatchNorm2d]) -> dict[str, torch.Tensor]:
    """Normalize this rank's share of one batch twice, then pull a gradient through."""
    rank, width = workers.rank(), workers.size()
    generator = torch.Generator().manual_seed(0)
    images = 3 + 2 * torch.randn(8, 3, 4, 5, generator=generator)
    pull = torch.randn(8, 3, 4, 5, generator=generator)[rank::width]
    share = images[rank::width].requires_grad_()
    layer = norm(3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
    layer(share)
    normalized = layer(share)
    (normalized * pull).sum().backward()
    assert share.grad is not None and layer.weight.grad is not None and layer.bias.grad is not None
    return {
        "normalized": normalized.detach(),
        "image grad": share.grad,
        "weight grad": layer.weight.grad,
        "bias grad": layer.bias.grad,
        **{name: value.float() for name, value in layer.named_buffers()},
    }


shared_batch_norm = partial(batch_norm, SyncBatchNorm2d)
