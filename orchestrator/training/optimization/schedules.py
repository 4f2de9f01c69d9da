"""Schedules of the learning rate, epoch by epoch.

cosine         from the rate to zero over all epochs (Loshchilov and Hutter, 2016, arXiv:1608.03983, without restarts)
warm_restarts  SGDR, the same paper: cosine to zero over a cycle, then the full rate again; cycles grow by a factor
poly           the rate times (1 - epoch / epochs) to a power: 0.9 in nnU-Net (Isensee et al., 2021, Nature Methods)
plateau        divided by ten when the validation Dice stalls
constant       the rate
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from orchestrator.training.recipe import Recipe


class Schedule:
    """Linear warm-up from a tenth of the rate, then the recipe's schedule, stepped once per epoch."""

    def __init__(self, optimizer: Optimizer, recipe: Recipe) -> None:
        self.optimizer = optimizer
        self.steps: LambdaLR | ReduceLROnPlateau
        if recipe.schedule == "plateau":
            self.steps = ReduceLROnPlateau(
                optimizer,
                mode="max",
                factor=0.1,
                patience=recipe.plateau_patience,
                threshold=1e-4,
                threshold_mode="abs",  # a relative threshold of a negative value would count stagnation as improvement
            )
        else:
            self.steps = LambdaLR(optimizer, lambda epoch: factor(recipe, epoch))

    @property
    def rate(self) -> float:
        result: float = self.optimizer.param_groups[0]["lr"]
        return result

    def step(self, dice: float) -> None:
        """End an epoch; `dice`: of validation; in a refit, which has none, the negative training loss."""
        if isinstance(self.steps, ReduceLROnPlateau):
            self.steps.step(dice)
        else:
            self.steps.step()

    def state_dict(self) -> dict[str, Any]:
        return self.steps.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps.load_state_dict(state)


def factor(recipe: Recipe, epoch: int) -> float:
    """Share in [0, 1] of the rate in an epoch, of every schedule but plateau; `epoch` counts from 0."""
    if epoch < recipe.warmup_epochs:
        return 0.1 + 0.9 * epoch / recipe.warmup_epochs
    epoch, epochs = epoch - recipe.warmup_epochs, recipe.epochs - recipe.warmup_epochs
    match recipe.schedule:
        case "cosine":
            return _cosine(epoch, epochs)
        case "warm_restarts":
            return _cosine(*in_cycle(epoch, recipe.restart_period, recipe.restart_multiplier))
        case "poly":
            return float(max(1 - epoch / epochs, 0) ** recipe.poly_power)
        case _:
            return 1.0


def _cosine(epoch: int, epochs: int) -> float:
    return 0.5 * (1 + float(np.cos(np.pi * epoch / epochs)))


def in_cycle(epoch: int, period: int, multiplier: int) -> tuple[int, int]:
    """An epoch's number within its cycle, and the cycle's length: period, period x multiplier, ... epochs."""
    while epoch >= period:
        epoch, period = epoch - period, period * multiplier
    return epoch, period
