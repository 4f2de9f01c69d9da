"""Speed of training and scoring one configuration: a few steps are timed, to forecast the time of a fit.

The exchange of gradients between workers is computed. Epochs with a frozen encoder are timed separately.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from orchestrator import models
from orchestrator.data.cache.frames import CachedCases
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.space import Configuration
from orchestrator.training.batch_memory import Memory
from orchestrator.training.fit import run_fit
from orchestrator.training.memory import within_memory
from orchestrator.training.optimization.weight_averaging import first_averaged
from orchestrator.training.recipe import FitSpec, Recipe

STEPS = 5  # of training that are timed, after as many to warm up
VALIDATED = 8  # images
BANDWIDTH = 10e9  # bytes a second between two GPUs of one machine, of which all-reduce uses all


@dataclass(frozen=True)
class Held:
    """Speed of training, and bytes of gradients, while the encoder is frozen."""

    speedup: float  # of a step, over one that trains all
    gradient_bytes: int


@dataclass(frozen=True)
class Speed:
    """Speed of one worker with one configuration; `training`: share of a global batch -> images a second."""

    training: dict[int, float]
    validation: float  # images a second
    gradient_bytes: int
    held: Held | None = None  # where the recipe holds the encoder still at first

    def fit_seconds(self, spec: FitSpec, width: int) -> float:
        """Seconds of a fit on `width` workers: all epochs, as patience cannot be foreseen, and scoring."""
        recipe = spec.recipe
        steps = len(spec.train) // recipe.batch_size
        step = recipe.batch_size / width / self._rate(recipe.batch_size // width)
        exchange = 2 * (width - 1) / width / BANDWIDTH  # seconds for each byte of gradients
        scoring = len(spec.val) / width / self.validation
        statistics = steps * recipe.batch_size / width / self.validation  # of BatchNorm, for averaged weights
        num_held = recipe.freeze_epochs if self.held is not None else 0
        training = (recipe.epochs - num_held) * steps * (step + exchange * self.gradient_bytes)
        if self.held is not None:
            training += num_held * steps * (step / self.held.speedup + exchange * self.held.gradient_bytes)
        return training + (recipe.epochs + 1) * scoring + _num_averaged(recipe) * statistics

    def like(self, measured: Speed) -> Speed:
        """This speed at all shares of `measured`, of another configuration, by the ratio at one share."""
        common = next(iter(self.training))
        factor = self.training[common] / measured._rate(common)
        return replace(self, training={share: rate * factor for share, rate in measured.training.items()})

    def _rate(self, share: int) -> float:
        """Images a second at the nearest share that was measured."""
        return self.training[min(self.training, key=lambda known: abs(known - share))]


def measure(
    configuration: Configuration,
    plan: SplitPlan,
    cases: CachedCases,
    device: torch.device,
    shares: Sequence[int],
    loader_workers: int = 0,
) -> Speed:
    """Time a few steps of a configuration with these shares of its batch, on the images of its first fold.

    A share that exceeds the memory is trained in parts, as in a fit. Raises `FitFailed` as a fit does.
    """
    spec = fold_specs(configuration, plan)[0]
    timed = partial(_timed, spec, cases, device, loader_workers)
    training, validation = {}, 0.0
    for share in shares:
        training[share], scored = timed(share)
        validation = max(validation, scored)
    network = _without_numbers(configuration)
    num_bytes = _bytes(network.parameters())
    if not spec.recipe.freeze_epochs:
        return Speed(training, validation, num_bytes)
    encoder = {
        id(one) for part in models.encoder_parts(network) for one in network.get_submodule(part).parameters()
    }
    others = _bytes(one for one in network.parameters() if id(one) not in encoder)
    share = shares[-1]
    speedup = timed(share, is_held=True)[0] / training[share]
    return Speed(training, validation, num_bytes, Held(speedup, others))


def _timed(
    spec: FitSpec,
    cases: CachedCases,
    device: torch.device,
    loader_workers: int,
    share: int,
    *,
    is_held: bool = False,
) -> tuple[float, float]:
    """Images a second in training, with this share of the batch, and in validation."""
    few = _few(spec, share, is_held=is_held)
    rows: list[dict[str, float]] = []

    def keep(row: dict[str, float]) -> bool:
        rows.append(row)
        return row["epoch"] == 0  # what is timed is not scored

    with tempfile.TemporaryDirectory() as folder:
        within_memory(
            Memory(Path(folder)),
            {"share": share},
            share,
            device,
            lambda at_a_time: run_fit(
                few,
                cases,
                Path(folder),
                device=device,
                report=keep,
                loader_workers=loader_workers,
                micro_batch=at_a_time,
            ),
            smallest=models.smallest_batch(spec.network),
        )
    rate = rows[-1]["images_per_second"]
    seconds = rows[-1]["seconds"] - len(few.train) / rate
    return rate, len(few.val) / max(seconds, 1e-6)


def _few(spec: FitSpec, share: int, *, is_held: bool) -> FitSpec:
    """A fit of two epochs of STEPS steps of `share` images; if `is_held`, of three, two of them frozen."""
    changed = {
        "batch_size": share,
        "epochs": 3 if is_held else 2,
        "warmup_epochs": 0,
        "freeze_epochs": 2 if is_held else 0,
        "sampling": "cases",  # a few cases may be of one class
        "patience": 0,
        "weight_averaging": "none",  # not in every epoch
    }
    return spec.model_copy(
        update={
            "recipe": spec.recipe.model_copy(update=changed),
            "train": spec.train[: STEPS * share],
            "val": spec.val[:VALIDATED],
        }
    )


def _without_numbers(configuration: Configuration) -> torch.nn.Module:
    return models.build_without_values(configuration.network, **_without_weights(configuration))


def _bytes(parameters: Iterable[torch.nn.Parameter]) -> int:
    """Bytes of the gradients of those parameters that are trained."""
    return sum(one.numel() * one.element_size() for one in parameters if one.requires_grad)


def _num_averaged(recipe: Recipe) -> int:
    """Number of epochs after which averaged weights are scored; 0 without weight averaging."""
    if recipe.weight_averaging == "none":
        return 0
    return recipe.epochs - first_averaged(recipe)


def _without_weights(configuration: Configuration) -> dict[str, object]:
    offline = {"pretrained": False, "weights": None}
    known = models.params(configuration.network)
    return {**configuration.network_params, **{key: value for key, value in offline.items() if key in known}}
