"""Scores of a network on validation images: after an epoch, at the size of training, and at the masks' own size."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from orchestrator import models
from orchestrator.data.cache.frames import CachedCases
from orchestrator.data.resize import resize_probability
from orchestrator.scoring.filters import filter_bins
from orchestrator.scoring.histograms import NUM_BINS, histogram_of_bins, to_bins
from orchestrator.scoring.threshold import best_threshold
from orchestrator.training import workers
from orchestrator.training.batches import ValidationBatches
from orchestrator.training.losses.registry import Loss
from orchestrator.training.optimization.precision import Precision
from orchestrator.training.recipe import FitSpec
from orchestrator.training.validation.followed import small_map
from orchestrator.training.validation.test_time_averaging import averaged

# Images scored at a time, if memory allows.
SCORED_AT_A_TIME = 8
# An epoch is evaluated at its own best threshold in this range: the threshold of a trial is not known yet.
EPOCH_SWEEP = (0.05, 0.95)


def score_cases(
    network: nn.Module,
    cases: CachedCases,
    case_ids: Sequence[str],
    device: torch.device,
    spec: FitSpec,
    at_a_time: int = SCORED_AT_A_TIME,
) -> np.ndarray:
    """Return histograms (N, 2, 256) of the probabilities at each mask's original size, on every worker."""
    predicted = predicted_bins(network, cases, case_ids, device, spec, at_a_time)
    return _in_order([histogram_of_bins(bins, truth) for bins, truth in predicted], len(case_ids))


def predicted_bins(
    network: nn.Module,
    cases: CachedCases,
    case_ids: Sequence[str],
    device: torch.device,
    spec: FitSpec,
    at_a_time: int = SCORED_AT_A_TIME,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Probabilities as bins (H, W), and the true mask (H, W), at its original size; of this worker's share of cases.

    Views are averaged, then the fit's filters are applied. Always in float32: this is what the exported network
    computes.
    """
    network = averaged([network.eval()], spec.recipe.tta)
    batches = ValidationBatches(cases, case_ids, at_a_time, device)
    remaining = iter(batches.case_ids)
    for image, _ in batches:
        with torch.inference_mode():
            probabilities = network(image)[0].sigmoid()[:, 0].float().cpu().numpy()
        for probability in probabilities:
            truth = cases.original_mask(next(remaining))
            bins = to_bins(resize_probability(probability, *truth.shape))
            yield filter_bins(bins, spec.fill_holes, spec.min_component_area), truth


class Validation(NamedTuple):
    """The validation images of all workers after an epoch; the same on every worker."""

    dice: float  # mean, at the best threshold of this epoch; NaN if any output is NaN
    loss: float  # mean of the loss that is trained; NaN where it cannot be computed as in training
    maps: dict[str, Tensor]  # of the cases that were asked for, as `small_map`


NOTHING_VALIDATED = Validation(float("nan"), float("nan"), {})


def validate(
    network: nn.Module, val: ValidationBatches, amp: Precision, loss_of: Loss, wanted: Collection[str]
) -> Validation:
    """Score the validation images, without test-time augmentation, which is applied when the fit is scored.

    `wanted`: cases whose maps are to be kept.
    """
    network.eval()
    counted: list[np.ndarray] = []
    is_nan = torch.zeros((), dtype=torch.bool, device=val.device)
    loss, maps = torch.zeros((), device=val.device), {}
    num_outputs = len(models.supervision(network))
    with torch.inference_mode():
        for image, mask in val:
            with amp.autocast():
                outputs = network(image)
            probability = outputs[0].float().sigmoid()
            is_nan = is_nan | probability.isnan().any()
            loss += loss_as_trained(loss_of, outputs, mask, num_outputs) * len(image)
            for case_id, one in zip(val.case_ids[len(counted) :], probability, strict=False):
                if case_id in wanted:
                    maps[case_id] = small_map(one)
            counted.extend(_histograms(probability.nan_to_num(), mask))
    parts = workers.gather((counted, bool(is_nan), float(loss), maps))
    if any(part_is_nan for _, part_is_nan, _, _ in parts):
        return NOTHING_VALIDATED
    histograms = np.concatenate([np.stack(part) for part, _, _, _ in parts if part])
    mean_loss = sum(part for _, _, part, _ in parts) / len(histograms)
    kept = {case_id: one for _, _, _, found in parts for case_id, one in found.items()}
    return Validation(best_threshold(histograms, *EPOCH_SWEEP)[1], mean_loss, kept)


def loss_as_trained(
    loss_of: Loss, outputs: tuple[Tensor, ...], mask: Tensor, num_outputs: int
) -> Tensor | float:
    """The loss of a batch; NaN for a network whose outputs in evaluation are not those that are trained.

    `num_outputs`: those that have a target of their own; 0: any number.
    """
    is_whole = num_outputs in (0, len(outputs)) and all(output.shape == mask.shape for output in outputs)
    return loss_of(outputs, mask) if is_whole else float("nan")


def _histograms(probability: Tensor, mask: Tensor) -> np.ndarray:
    """probability, mask (B, 1, S, S) -> (B, 2, 256) pixel counts outside and inside the mask."""
    num_images = len(probability)
    bins = (probability * NUM_BINS).long().clamp_(max=NUM_BINS - 1)
    offset = torch.arange(num_images, device=mask.device).view(-1, 1, 1, 1) * 2 * NUM_BINS
    keys = bins + mask.long() * NUM_BINS + offset
    counts = torch.bincount(keys.flatten(), minlength=num_images * 2 * NUM_BINS)
    return counts.view(num_images, 2, NUM_BINS).cpu().numpy()


def _in_order(scored: list[np.ndarray], num_cases: int) -> np.ndarray:
    """Restore the order of cases after scoring: rank r had cases r, r + W, r + 2W, ..."""
    histograms = np.zeros((num_cases, 2, NUM_BINS), np.uint32)
    for rank, part in enumerate(workers.gather(scored)):
        if part:
            histograms[rank :: workers.size()] = np.stack(part)
    return histograms
