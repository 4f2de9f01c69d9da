"""The encoder of a network during training: held (frozen) for the first epochs, or for all.

Held: its weights have no gradient, and it is in evaluation mode: BatchNorm uses and keeps the statistics that it came
with, and dropout is off.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from orchestrator.training.recipe import Recipe


class PretrainedEncoder:
    """The parts of one network that came with ImageNet weights; without any, a no-op."""

    def __init__(self, network: nn.Module, parts: Sequence[str], recipe: Recipe) -> None:
        """`parts`: names of modules. ValueError: the recipe treats an encoder that the network does not have."""
        if recipe.treats_encoder and not parts:
            raise ValueError(f"{type(network).__name__} has no encoder from timm")
        self.parts, self.recipe = tuple(parts), recipe
        self.modules = [network.get_submodule(name) for name in parts]
        own = {id(one): one for module in self.modules for one in module.parameters(recurse=False)}
        self.parameters = [parameter for parameter in own.values() if parameter.requires_grad]
        if recipe.treats_encoder and not self.parameters:
            raise ValueError(f"the encoder of {type(network).__name__} is frozen: no rate acts on it")

    def is_held(self, epoch: int) -> bool:
        """Whether the encoder is frozen in an epoch, which counts from 0."""
        return epoch < self.recipe.freeze_epochs or not self.recipe.encoder_learning_rate_factor

    def held_parts(self, epoch: int) -> tuple[str, ...]:
        """Names of the modules that an epoch does not change."""
        return self.parts if self.is_held(epoch) else ()

    def prepare(self, epoch: int) -> bool:
        """Freeze or release the encoder for an epoch, in a network in training mode; True if it changes."""
        is_held = self.is_held(epoch)
        is_change = any(parameter.requires_grad is is_held for parameter in self.parameters)
        for parameter in self.parameters:
            parameter.requires_grad_(not is_held)
        for module in self.modules:
            module.training = module.training and not is_held
        return is_change
