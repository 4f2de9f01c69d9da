"""Gradient checkpointing (Chen et al., 2016, arXiv:1604.06174): less memory for more time, since parts of a
network are computed again in the backward pass.

Of each part the forward pass keeps the inputs alone. Results are the same: random numbers are drawn again as before,
and BatchNorm's statistics, which the second pass would update again, are put back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from orchestrator.common.errors import FitFailed
from orchestrator.common.private_api import member

CONTAINERS = (nn.ModuleList, nn.ModuleDict)


def parts_of(network: nn.Module) -> list[nn.Module]:
    """Modules to compute again: of at least two layers, at most the square root of the number of layers.

    Layers are modules with parameters of their own. Empty for a network that has no such modules.
    """
    return list(_parts(network, max(2, math.ceil(math.sqrt(_num_layers(network))))))


def _parts(parent: nn.Module, most: int) -> Iterator[nn.Module]:
    for child in parent.children():
        layers = _num_layers(child)
        if 2 <= layers <= most and not isinstance(child, CONTAINERS):
            yield child
        elif layers >= 2:
            yield from _parts(child, most)


def _num_layers(module: nn.Module) -> int:
    return sum(1 for one in module.modules() if next(one.parameters(recurse=False), None) is not None)


@contextmanager
def computed_again(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Context of a forward pass whose backward pass computes these modules again."""
    before = [module.forward for module in parts]
    own = ["forward" in vars(module) for module in parts]
    try:
        for module in parts:
            module.forward = partial(_forward, module, module.forward)
        yield
    finally:
        for module, forward, is_own in zip(parts, before, own, strict=True):
            if is_own:
                module.forward = forward
            else:
                del module.forward


def _forward(module: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    args, kwargs = _copied(args), _copied(kwargs)
    inputs = [(value, member(value, "_version")) for value in _tensors((args, kwargs))]
    return checkpoint(
        forward,
        *args,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _second_pass(module, inputs)),
        **kwargs,
    )


@contextmanager
def _second_pass(module: nn.Module, inputs: Sequence[tuple[Tensor, int]]) -> Iterator[None]:
    """Check that inputs are those of the first pass, and keep the module's buffers."""
    if any(member(value, "_version") != version for value, version in inputs):
        raise FitFailed(
            f"gradient_checkpointing: the input of {type(module).__name__} was changed in place after it was read, so "
            "that the backward pass cannot compute it again; use gradient_checkpointing = false with this network"
        )
    kept = [(one, *named) for one in module.modules() for named in one.named_buffers(recurse=False)]
    for one, name, buffer in kept:
        setattr(one, name, buffer.clone())
    try:
        yield
    finally:
        for one, name, buffer in kept:
            setattr(one, name, buffer)


def _copied(value: Any) -> Any:
    """Arguments with lists of their own: some lists of maps grow after a module has read them."""
    if isinstance(value, dict):
        return {name: _copied(one) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)
