"""Test-time averaging of probabilities over flips of an image, and over networks of several folds or trials.

The results are logits again, so that scores, ONNX and masks need not know the number of predictions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from orchestrator.training.recipe import VIEWS, Tta


class Averaged(nn.Module):
    """Mean probability over networks and views, as logits, weighted by `shares`."""

    def __init__(self, networks: Sequence[nn.Module], tta: Tta, shares: Sequence[int] | None = None) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.views = VIEWS[tta]
        alike = shares is None or len(set(shares)) == 1
        self.shares = None if alike else [share for share in shares or () for _ in self.views]

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """image (B, 3, S, S) in [0, 1] -> logits (B, 1, S, S)."""
        views = torch.cat([_turned(image, axes) for axes in self.views])
        predictions = []
        for network in self.networks:
            seen = network(views)[0].unflatten(0, (len(self.views), -1))
            predictions += [_turned(one, axes) for one, axes in zip(seen, self.views, strict=True)]
        return (logits_of_mean(torch.stack(predictions), self.shares),)


def averaged(
    networks: Sequence[nn.Module], tta: Tta = "none", shares: Sequence[int] | None = None
) -> nn.Module:
    """One network that averages several and their views; a single network without views is returned as it is."""
    return networks[0] if len(networks) == 1 and tta == "none" else Averaged(networks, tta, shares).eval()


def logits_of_mean(logits: Tensor, shares: Sequence[int] | None = None) -> Tensor:
    """logits (K, ...) -> logits (...) of the mean of their K probabilities, exact where these are near 0 or 1.

    shares (K,): integer weights; None: equal weights.
    """
    white, black = logsigmoid(logits), logsigmoid(-logits)
    if shares is not None:
        weight = logits.new_tensor(shares).log().view(-1, *[1] * (logits.ndim - 1))
        white, black = white + weight, black + weight
    return white.logsumexp(0) - black.logsumexp(0)


def _turned(batch: Tensor, axes: tuple[int, ...]) -> Tensor:
    return batch.flip(axes) if axes else batch
