"""The workers that train one fit together: ranks, collectives, and BatchNorm over all of them.

Without a process group there is one worker and everything here is the identity, so the code of a fit is the same in a
plain process and in a lane.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

# Number of images below which a worker's own BatchNorm statistics are too noisy.
SYNC_BATCH_NORM_BELOW = 8


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def seed_dropout(seed: int, epoch: int) -> None:
    """Seed torch from seed, epoch and rank, so that a resumed fit repeats the random numbers of an epoch."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, rank()]).generate_state(1, np.uint64)[0]))


def from_first(value: T) -> T:
    """Return rank 0's value on every rank."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: T) -> list[T]:
    """Return every rank's value, in rank order, on every rank."""
    if size() == 1:
        return [value]
    box: list[Any] = [None] * size()
    dist.all_gather_object(box, value)
    return box


def mean(value: float) -> float:
    """Return the mean over ranks, the same number on every rank."""
    values = gather(value)
    return sum(values) / len(values)


def share_buffers(network: nn.Module) -> None:
    """Copy rank 0's BatchNorm statistics to all ranks, so that all validate the network that is saved."""
    if size() > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def replica(network: nn.Module) -> nn.Module:
    """The network, with gradients that are exchanged between ranks; parameters without a gradient take no part."""
    return DistributedDataParallel(network) if size() > 1 else network


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose gradient is all-reduced too: each rank's loss depends on every rank's input."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def _sum_over_ranks(values: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]
    return total


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the images of all ranks, on CPU too; `nn.SyncBatchNorm` does not accept CPU tensors.

    Every rank must hold the same number of images, which a global batch size guarantees.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input (B, C, H, W) on each rank -> normalized with the statistics of all ranks, (B, C, H, W)."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        count = values.numel() / values.shape[1] * size()
        mean = _sum_over_ranks(values.sum((0, 2, 3))) / count
        centered = values - mean[:, None, None]
        variance = _sum_over_ranks(centered.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach(), count)
        scaled = centered * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.affine:
            scaled = scaled * self.weight[:, None, None] + self.bias[:, None, None]
        out: Tensor = scaled.to(input.dtype)
        return out

    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / max(count - 1, 1), momentum)


def share_batch_norm(network: nn.Module, micro_batch: int, device: torch.device) -> nn.Module:
    """Replace BatchNorm by one over all ranks if a worker has fewer than eight images at a time.

    Statistics are then those of size() x micro_batch images, otherwise of one worker's micro_batch. A fit whose share
    of the global batch is split thus normalizes with fewer images than the recipe says; BatchNorm's running statistics
    are updated once per micro-batch. Networks without BatchNorm are not changed.
    """
    if size() == 1 or micro_batch >= SYNC_BATCH_NORM_BELOW:
        return network
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm  # torch's own drops the activation inside timm's

        result: nn.Module = convert_sync_batchnorm(network)
        return result
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:  # timm's subclasses do more
                shared = SyncBatchNorm2d(child.num_features, child.eps, child.momentum, child.affine)
                shared.load_state_dict(child.state_dict())
                setattr(parent, name, shared)
    return network
