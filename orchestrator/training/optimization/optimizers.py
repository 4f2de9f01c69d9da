"""Optimizers by name.

adam     Kingma and Ba, 2014, arXiv:1412.6980
adamw    Loshchilov and Hutter, 2017, arXiv:1711.05101: Adam with decoupled weight decay
nadam    Dozat, 2016, ICLR workshop: Adam with Nesterov momentum
sgd      stochastic gradient descent, with momentum, or with Nesterov's (Sutskever et al., 2013, ICML)
lion     Chen et al., 2023, arXiv:2302.06675: steps by the sign of the momentum; rates of a tenth of AdamW's
muon     Jordan et al., 2024, kellerjordan.github.io/posts/muon: momentum made orthogonal, with steps as long as AdamW's
         (Liu et al., 2025, arXiv:2502.16982), so that AdamW's rates apply. Kernels are flattened to output channels x
         rest; biases, norms, depthwise kernels and thin matrices are left to AdamW with Nesterov momentum

The last two are timm's. Weight decay acts on every parameter. Decoupled (adamw, lion, muon): each step also multiplies
the weights by 1 - rate x decay. L2 (adam, nadam, sgd): decay x weights is added to the gradient, so that the scaling of
Adam acts on the decay too. The gradient is clipped before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer

from orchestrator.training.recipe import Recipe


def optimizer_of(network: nn.Module, recipe: Recipe, encoder: Sequence[nn.Parameter] = ()) -> Optimizer:
    """The optimizer of a recipe for all parameters of a network; those of the encoder have a share of the rate.

    Parameters that the network has frozen are left out.
    """
    parameters = _groups(network, recipe, encoder)
    settings: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    match recipe.optimizer:
        case "adam":
            return Adam(parameters, **settings)
        case "adamw":
            return AdamW(parameters, **settings)
        case "nadam":
            return NAdam(parameters, **settings)
        case "sgd":
            return SGD(parameters, momentum=recipe.momentum, nesterov=recipe.nesterov, **settings)
        case "lion" | "muon":
            return _of_timm(recipe.optimizer, parameters, settings)


def _groups(network: nn.Module, recipe: Recipe, encoder: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    factor = recipe.encoder_learning_rate_factor
    own = {id(parameter) for parameter in encoder}
    # Those of a held encoder ask for no gradient now, but will when it is released.
    trained = [one for one in network.parameters() if one.requires_grad or id(one) in own]
    if factor == 1:
        return [{"params": trained}]
    rest = [parameter for parameter in trained if id(parameter) not in own]
    slower = {"params": list(encoder), "lr": recipe.learning_rate * factor}
    return [{"params": rest}, slower] if factor else [{"params": rest}]


def _of_timm(name: str, parameters: list[dict[str, Any]], settings: dict[str, Any]) -> Optimizer:
    from timm.optim import Lion, Muon  # takes seconds

    found: Optimizer = (
        Lion(parameters, **settings)
        if name == "lion"
        else Muon(parameters, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw", **settings)
    )
    return found
