"""Pictures of the few validation cases that a fit follows: how the segmentation grows from epoch to epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.data.cases import Case
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.resize import resize_probability
from orchestrator.results.views.overlay import outlined
from orchestrator.scoring.histograms import NUM_BINS
from orchestrator.scoring.threshold import best_threshold
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.training.validation.followed import EPOCHS
from orchestrator.training.validation.scores import EPOCH_SWEEP

SIDE = 192  # pixels of the longer side


class FollowedImage(NamedTuple):
    """A case after an epoch, from 0: RGB uint8 (H, W, 3), the truth outlined in blue, the prediction in yellow.

    Epoch -1 has the truth alone: MLflow's page begins before the first epoch.
    """

    case_id: str
    epoch: int
    image: NDArray[np.uint8]


def followed_images(record: FitRecord, cases: Mapping[str, Case]) -> Iterator[FollowedImage]:
    """Pictures of each case that a fit follows, for each epoch with a stored map, at the fit's threshold.

    `cases` by id. No pictures for a record of an earlier version. Raises `Unreadable`.
    """
    epochs = record.followed.get(EPOCHS, np.zeros(0, int))
    if not len(epochs):
        return
    threshold, _ = best_threshold(record.histograms, *EPOCH_SWEEP)
    for case_id, maps in record.followed.items():
        if case_id == EPOCHS:
            continue
        image, truth = _small(cases[case_id])
        yield FollowedImage(case_id, -1, outlined(image, np.zeros_like(truth), truth, width=1))
        for epoch, bins in zip(epochs, maps, strict=True):
            middle = (bins.astype(np.float32) + np.float32(0.5)) / np.float32(NUM_BINS)
            mask = resize_probability(middle, *truth.shape) >= threshold
            yield FollowedImage(case_id, int(epoch), outlined(image, mask, truth, width=1))


def _small(case: Case) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Image and mask of a case, reduced to at most `SIDE` pixels on the longer side."""
    scale = min(1.0, SIDE / max(case.height, case.width))
    size = max(1, round(case.width * scale)), max(1, round(case.height * scale))
    image = cv2.resize(read_image(case.image), size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(read_mask(case.mask).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return image.astype(np.uint8), mask > 0.5
