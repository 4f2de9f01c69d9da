"""Probability maps of a few validation cases at some epochs of a fit, to look at its progress.

They are of the same cases in every fit of a fold, at epochs that are dense at the beginning, small and in 256
steps: some ten kilobytes a fit. Nothing else is computed for them, and no decision rests on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from orchestrator.data.cache.frames import CachedCases
from orchestrator.data.followed import followed_cases
from orchestrator.scoring.histograms import NUM_BINS

NUM_EPOCHS = 8
SIDE = 96  # pixels, at most
EPOCHS = (
    "epochs"  # the array of `arrays` that names the epochs; no case is called so, for cases are DATASET/NAME
)


@dataclass(frozen=True)
class Followed:
    """The maps so far: epoch, from 0 -> case id -> bins, uint8 (S, S)."""

    case_ids: tuple[str, ...]
    epochs: frozenset[int]  # at which maps are kept
    maps: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def wanted(self, epoch: int) -> tuple[str, ...]:
        """The cases whose maps are kept in this epoch."""
        return self.case_ids if epoch in self.epochs else ()

    def add(self, epoch: int, maps: Mapping[str, Tensor]) -> None:
        """Keep the maps of an epoch, if it has any."""
        if maps:
            self.maps[epoch] = dict(maps)

    def arrays(self) -> dict[str, np.ndarray]:
        """Case id -> uint8 (E, S, S), and the epochs of these maps, int (E,), from 0; empty where none were kept."""
        epochs = sorted(self.maps)
        shown = [case_id for case_id in self.case_ids if all(case_id in self.maps[one] for one in epochs)]
        if not epochs or not shown:
            return {}
        stacked = {
            case_id: np.stack([self.maps[one][case_id].numpy() for one in epochs]) for case_id in shown
        }
        return {EPOCHS: np.array(epochs), **stacked}


def followed(
    cases: CachedCases, val: Sequence[str], num_epochs: int, maps: Mapping[int, Mapping[str, Tensor]]
) -> Followed:
    """Choice of the validation cases and epochs to follow; `maps`: of the epochs before a fit was resumed."""
    chosen = followed_cases([cases.case(case_id) for case_id in val])
    # 1, 2, 3, 6, ... and the last: most is learned at the beginning.
    epochs = frozenset(int(one) - 1 for one in np.geomspace(1, num_epochs, NUM_EPOCHS).round())
    return Followed(chosen, epochs, {epoch: dict(kept) for epoch, kept in maps.items()})


def small_map(probability: Tensor) -> Tensor:
    """Probabilities (1, S, S) -> bins uint8 (s, s) on the CPU, s at most `SIDE`."""
    if probability.shape[-1] > SIDE:
        probability = F.adaptive_avg_pool2d(probability, SIDE)
    return (probability[0] * NUM_BINS).clamp_(max=NUM_BINS - 1).to(torch.uint8).cpu()
