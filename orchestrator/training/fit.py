"""Training of one network on one fold, from top to bottom. Independent of Ray; data-parallel in a process group.

A worker whose share of the global batch does not fit into memory splits it into micro-batches and accumulates their
gradients: always one optimizer step per global batch. Loss, gradients, clipping and schedule are those of the whole
batch, up to the order of additions, with two exceptions: BatchNorm uses the micro-batch, over several workers if that
is small (workers.py), and dropout uses other random numbers. Every epoch's row contains its `micro_batch`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from orchestrator import models
from orchestrator.common.errors import BadMachine, FitFailed
from orchestrator.data.cache.frames import CachedCases
from orchestrator.training import workers
from orchestrator.training.batches import TrainingBatches, ValidationBatches
from orchestrator.training.checkpoint import load_best, load_checkpoint, save_checkpoint
from orchestrator.training.gradient_checkpointing import computed_again, parts_of
from orchestrator.training.losses.registry import Loss, segmentation_loss
from orchestrator.training.optimization.encoder import PretrainedEncoder
from orchestrator.training.optimization.optimizers import optimizer_of
from orchestrator.training.optimization.precision import Precision
from orchestrator.training.optimization.schedules import Schedule
from orchestrator.training.optimization.weight_averaging import WeightAverage
from orchestrator.training.recipe import FitSpec, Recipe
from orchestrator.training.validation.followed import followed
from orchestrator.training.validation.scores import NOTHING_VALIDATED, SCORED_AT_A_TIME, score_cases, validate

# `report(row)` gets the row of each epoch and returns whether to continue; called on every worker with the same row.
Report = Callable[[dict[str, float]], bool]
# `score(attempt)` returns attempt(number of images scored at a time).
Score = Callable[[Callable[[int], np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class FitOutcome:
    """Result of a fit; the same on every worker."""

    curves: tuple[dict[str, float], ...]  # one row per epoch
    best_epoch: int
    weights: dict[str, Tensor]
    case_ids: tuple[str, ...]  # validation cases, in the order of the histograms
    histograms: np.ndarray  # (N, 2, 256) at the masks' original sizes
    seconds: float  # training and validation, over all resumes
    followed: dict[str, np.ndarray] = field(default_factory=dict)  # as `Followed.arrays`


def _score_plainly(attempt: Callable[[int], np.ndarray]) -> np.ndarray:
    return attempt(SCORED_AT_A_TIME)


def run_fit(
    spec: FitSpec,
    cases: CachedCases,
    folder: Path,
    *,
    device: torch.device,
    report: Report,
    loader_workers: int = 0,
    micro_batch: int | None = None,
    score: Score = _score_plainly,
) -> FitOutcome | None:
    """Train and score one fit, resuming from the checkpoint in `folder` if there is one.

    `micro_batch`: images per worker and forward pass; by default its share of the global batch.
    `score`: chooses the number of images scored at a time.
    Returns None if `report` returned False: the checkpoint stays and the fit can be resumed. Raises `FitFailed`
    if the loss is not finite, and `BadMachine` if the recipe does not fit the device or the number of workers.
    """
    recipe = spec.recipe
    share = images_per_worker(recipe, len(spec.train))
    micro_batch = min(micro_batch or share, share)
    torch.manual_seed(recipe.seed)
    network = models.build(spec.network, **spec.network_params).to(device)
    encoder_parts = models.encoder_parts(network)
    network = workers.share_batch_norm(network, micro_batch, device)
    amp = Precision(recipe.precision, device)
    if amp.on_tensor_cores:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch 2.10
    encoder = PretrainedEncoder(network, encoder_parts, recipe)
    again = parts_of(network) if recipe.gradient_checkpointing else []
    train = TrainingBatches(cases, spec.train, recipe, models.stride(spec.network), device, loader_workers)
    val = ValidationBatches(cases, spec.val, micro_batch, device)
    loss_of = segmentation_loss(recipe.loss, models.supervision(network))
    optimizer = optimizer_of(network, recipe, encoder.parameters)
    schedule = Schedule(optimizer, recipe)
    average = WeightAverage(network, recipe)
    progress = Progress()

    saved = workers.from_first(load_checkpoint(folder, spec.fit_id) if workers.rank() == 0 else None)
    if saved is not None:
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        amp.scaler.load_state_dict(saved["scaler"])
        average.load_state_dict(saved.get("average", {}))  # checkpoints of earlier versions have none
        progress = Progress(**saved["progress"])
    shown = followed(cases, spec.val, recipe.epochs, (saved or {}).get("followed", {}))
    for row in progress.curves:  # repeated: the process that received them may have been killed
        if not report(row):
            return None

    replica: nn.Module | None = None
    while not progress.finished(recipe, spec.stop_after):
        started = time.monotonic()
        rate = schedule.rate
        network.train()
        if encoder.prepare(progress.epochs) or replica is None:
            replica = None  # ends the exchange of gradients of what had some before
            replica = workers.replica(network)
        workers.seed_dropout(recipe.seed, progress.epochs)
        total = torch.zeros((), device=device)
        for image, mask in train.epoch(progress.epochs):
            optimizer.zero_grad(set_to_none=True)
            total += _backward(replica, loss_of, image, mask, micro_batch, amp, again)
            amp.scaler.unscale_(optimizer)
            clip_grad_norm_(network.parameters(), recipe.clip_norm)
            amp.scaler.step(optimizer)
            amp.scaler.update()
            average.after_step(progress.epochs)
        train_loss = workers.mean(float(total) / len(train))
        train_seconds = workers.mean(time.monotonic() - started)
        if not np.isfinite(train_loss):
            raise FitFailed(
                f"the loss became {train_loss} in epoch {progress.epochs + 1} at learning rate {rate:.3g}"
            )
        with amp.autocast():
            images = _images(train, progress.epochs, micro_batch)
            average.after_epoch(progress.epochs, images, encoder.held_parts(progress.epochs))
        evaluated = average.best_known
        workers.share_buffers(evaluated)
        wanted = shown.wanted(progress.epochs)
        found = validate(evaluated, val, amp, loss_of, wanted) if spec.val else NOTHING_VALIDATED
        dice = found.dice
        if not _is_finite(evaluated) or (
            spec.val and np.isnan(dice)
        ):  # diverged after its last loss was computed
            raise FitFailed(
                f"the network became nan in epoch {progress.epochs + 1} at learning rate {rate:.3g}"
            )
        schedule.step(dice if spec.val else -train_loss)
        shown.add(progress.epochs, found.maps)
        improved = progress.add(
            dice,
            train_loss=train_loss,
            **({} if math.isnan(found.loss) else {"val_loss": found.loss}),
            learning_rate=rate,
            images_per_second=len(train) * recipe.batch_size / train_seconds,
            seconds=workers.mean(time.monotonic() - started),
            micro_batch=micro_batch,
        )
        if workers.rank() == 0:
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "scaler": amp.scaler.state_dict(),
                "average": average.state_dict(),
                "progress": vars(progress),
                "followed": shown.maps,
                "best_epoch": progress.best_epoch,
            }
            save_checkpoint(folder, spec.fit_id, state, evaluated.state_dict() if improved else None)
        if not report(progress.curves[-1]):
            return None

    weights = workers.from_first(load_best(folder, progress.best_epoch) if workers.rank() == 0 else {})
    network.load_state_dict(weights)
    started = time.monotonic()
    histograms = score(lambda images: score_cases(network, cases, spec.val, device, spec, images))
    seconds = progress.seconds() + workers.mean(time.monotonic() - started)
    curves = tuple(progress.curves)
    return FitOutcome(curves, progress.best_epoch, weights, spec.val, histograms, seconds, shown.arrays())


def _backward(
    replica: nn.Module,
    loss_of: Loss,
    image: Tensor,
    mask: Tensor,
    micro_batch: int,
    amp: Precision,
    again: Sequence[nn.Module],
) -> Tensor:
    """Accumulate the gradients of the mean loss over all images, `micro_batch` at a time; return that loss.

    `again`: modules that the backward pass computes again.

    Workers exchange gradients once, with the last micro-batch.
    """
    total = torch.zeros((), device=image.device)
    num_parts = math.ceil(
        len(image) / micro_batch
    )  # of similar sizes, so that BatchNorm never gets a single image
    parts = list(zip(image.tensor_split(num_parts), mask.tensor_split(num_parts), strict=True))
    for left, (part, truth) in zip(reversed(range(len(parts))), parts, strict=True):
        with _without_gradient_sync(replica) if left else nullcontext():
            with amp.autocast(), computed_again(again):
                outputs = replica(part)
            loss = loss_of(outputs, truth) * (len(part) / len(image))
            amp.scaler.scale(loss).backward()
        total += loss.detach()
    return total


def _images(train: TrainingBatches, epoch: int, micro_batch: int) -> Iterator[Tensor]:
    """The images of an epoch again, `micro_batch` at a time."""
    for image, _ in train.epoch(epoch):
        yield from image.tensor_split(math.ceil(len(image) / micro_batch))


def _without_gradient_sync(replica: nn.Module) -> AbstractContextManager[Any]:
    """Context without gradient exchange between workers."""
    return replica.no_sync() if isinstance(replica, DistributedDataParallel) else nullcontext()


def _is_finite(network: nn.Module) -> bool:
    """Return whether all weights and statistics are finite: the same answer on every worker."""
    return all(bool(value.isfinite().all()) for value in network.state_dict().values())


def images_per_worker(recipe: Recipe, num_train: int) -> int:
    """A worker's share of the global batch. Raises `BadMachine` if the batch cannot be split evenly."""
    if num_train < recipe.batch_size:
        raise BadMachine(
            "batch_size", f"needs at most the {num_train} training cases of the fold, got {recipe.batch_size}"
        )
    if recipe.batch_size % workers.size():
        widths = [width for width in range(1, recipe.batch_size + 1) if recipe.batch_size % width == 0]
        raise BadMachine(
            "workers per fit",
            f"a batch of {recipe.batch_size} cannot be split evenly over {workers.size()} workers; possible: {widths}",
        )
    return recipe.batch_size // workers.size()


class Progress:
    """State of a fit: its curves, its best epoch, and whether it is finished."""

    def __init__(
        self, curves: Sequence[dict[str, float]] = (), best_epoch: int = -1, best_dice: float = -1.0
    ) -> None:
        self.curves = list(curves)
        self.best_epoch = best_epoch
        self.best_dice = best_dice

    @property
    def epochs(self) -> int:
        return len(self.curves)

    def add(self, dice: float, **row: float) -> bool:
        """Append an epoch; return whether it is the best. Without validation the last epoch is the best."""
        epoch = self.epochs
        self.curves.append({"epoch": epoch, "val_dice": dice, **row})
        if np.isnan(dice) or dice > self.best_dice:
            self.best_epoch, self.best_dice = epoch, dice
            return True
        return False

    def finished(self, recipe: Recipe, stop_after: int | None) -> bool:
        waited = self.epochs - 1 - self.best_epoch
        return self.epochs >= (stop_after or recipe.epochs) or bool(
            recipe.patience and waited >= recipe.patience
        )

    def seconds(self) -> float:
        return sum(row["seconds"] for row in self.curves)
