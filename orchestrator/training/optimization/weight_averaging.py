"""Averaging of a network's weights during training: the mean is validated, saved and exported.

"swa" averages the weights after each epoch equally (Izmailov et al., arXiv:1803.05407); "ema" those after each step,
with decaying weights. Both begin after a share of the epochs; until then the network itself is used. BatchNorm's
statistics are recomputed for the mean weights, in one more pass over the epoch's training batches, without gradients;
not those of an encoder that is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from orchestrator.training.recipe import Recipe


def first_averaged(recipe: Recipe) -> int:
    """The first epoch whose weights are averaged."""
    return int(recipe.averaging_start * recipe.epochs)


class WeightAverage:
    """Running average of one network's weights; a no-op without averaging."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        self.network = network
        self.kind = recipe.weight_averaging
        self.begins = first_averaged(recipe)
        self.mean: AveragedModel | None = None
        if self.kind != "none":
            mean_of = get_ema_multi_avg_fn(recipe.ema_decay) if self.kind == "ema" else get_swa_multi_avg_fn()
            self.mean = AveragedModel(network, multi_avg_fn=mean_of)

    @property
    def best_known(self) -> nn.Module:
        """The network with mean weights once averaging has begun; before that, the network."""
        has_begun = self.mean is not None and bool(self.mean.n_averaged > 0)
        return self.mean.module if self.mean is not None and has_begun else self.network

    def after_step(self, epoch: int) -> None:
        if self.kind == "ema" and epoch >= self.begins:
            self._take()

    def after_epoch(self, epoch: int, images: Iterable[Tensor], held: Sequence[str] = ()) -> None:
        """`images`: training batches (B, 3, H, W), iterated only if there is BatchNorm; `held`: names of modules."""
        if self.mean is None or epoch < self.begins:
            return
        if self.kind == "swa":
            self._take()
        update_batch_norm(self.mean.module, images, held)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.mean is None else self.mean.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.mean is not None:
            self.mean.load_state_dict(state)

    def _take(self) -> None:
        if self.mean is not None:
            self.mean.update_parameters(self.network)


@torch.no_grad()
def update_batch_norm(network: nn.Module, images: Iterable[Tensor], held: Sequence[str]) -> None:
    """Replace BatchNorm's statistics by their means over these images, as torch's `update_bn`.

    Modules with the names in `held`, and frozen ones, are in evaluation mode and keep theirs.
    """
    was_training = network.training
    network.train()
    for name in held:
        network.get_submodule(name).training = False
    norms = {
        module: module.momentum
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.training
    }
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for image in images if norms else ():
        network(image)
    for norm, momentum in norms.items():
        norm.momentum = momentum
    network.train(was_training)
