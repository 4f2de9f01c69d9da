"""Batches of cases on the device: the same images for equal seed, epoch and case, with any number of workers.

Multi-scale training, as in PraNet (arXiv:2006.11392): all images of a batch are resized to one scale, sampled for each
step. PraNet takes each batch at 0.75, 1 and 1.25 in turn, one step each: one epoch of theirs is three of ours.
Threads prepare batches in advance: OpenCV and NumPy release the GIL, while transferring a batch from another process
costs several times as much as making it (tests/benchmarks/feed_rate.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from orchestrator.common.errors import BadMachine
from orchestrator.data.augmentation.pipelines import case_seed, pipeline
from orchestrator.data.augmentation.steps import unpack
from orchestrator.data.cache.frames import CachedCases
from orchestrator.training import workers
from orchestrator.training.recipe import Recipe
from orchestrator.training.sampling import (
    Key,
    Sampling,
    balanced_keys,
    class_of,
    epoch_keys,
    sampling_problem,
)

Item = TypeVar("Item")
Result = TypeVar("Result")


class TrainingCases:
    """Augmented cases; the key (epoch, case id) determines the augmentation. Thread-safe."""

    def __init__(self, cases: CachedCases, recipe: Recipe) -> None:
        self.augment = pipeline(recipe.augmentation, recipe.image_size, recipe.augmentation_strength)
        self.cases, self.seed = cases.at(self.augment.source_size), recipe.seed

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """key -> image uint8 (3, S, S), mask uint8 (1, S, S)."""
        images, masks = self.batch([key])
        return images[0], masks[0]

    def batch(self, keys: Sequence[Key], pinned: bool = False) -> tuple[Tensor, Tensor]:
        """B keys -> images uint8 (B, 3, S, S), masks uint8 (B, 1, S, S); `pinned`: for asynchronous GPU copies."""
        size = self.augment.image_size
        images, masks = (
            torch.empty((len(keys), channels, size, size), dtype=torch.uint8, pin_memory=pinned)
            for channels in (3, 1)
        )
        for (epoch, case_id), channels, place in zip(keys, images.numpy(), masks.numpy(), strict=True):
            image, mask = self.augment.of_packed(
                self.cases.frame(case_id), case_seed(self.seed, epoch, case_id)
            )
            cv2.split(image, list(channels))
            place[0] = mask
        return images, masks


class ValidationCases(Dataset[Any]):
    """Cases without augmentation, by case id."""

    def __init__(self, cases: CachedCases) -> None:
        self.cases = cases

    def __getitem__(self, key: str) -> tuple[Tensor, Tensor]:
        """key -> image uint8 (3, S, S), mask uint8 (1, S, S)."""
        return as_tensors(*unpack(self.cases.frame(key)))


def as_tensors(image: np.ndarray, mask: np.ndarray) -> tuple[Tensor, Tensor]:
    """image (S, S, 3), mask (S, S) -> uint8 tensors (3, S, S) and (1, S, S)."""
    channels = np.empty((3, *mask.shape), np.uint8)
    cv2.split(image, list(channels))  # six times as fast as a copy of the transposed array
    return torch.from_numpy(channels), torch.from_numpy(np.array(mask)[None])


class GlobalBatches:
    """This worker's part of every global batch of one epoch; an incomplete last batch is dropped."""

    def __init__(
        self,
        case_ids: Sequence[str],
        batch_size: int,
        seed: int,
        classes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`classes`: case ids by class, if each class is to have an equal share of an epoch."""
        self.case_ids, self.batch_size, self.seed, self.classes = case_ids, batch_size, seed, classes
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.case_ids) // self.batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        if self.classes is None:
            keys = epoch_keys(self.case_ids, self.seed, self.epoch)
        else:
            keys = balanced_keys(self.classes, self.seed, self.epoch)
        for step in range(len(self)):
            batch = keys[step * self.batch_size : (step + 1) * self.batch_size]
            yield batch[workers.rank() :: workers.size()]


class TrainingBatches:
    """The training cases of a fold; `epoch(n)` yields (image, mask) on the device."""

    def __init__(
        self,
        cases: CachedCases,
        case_ids: Sequence[str],
        recipe: Recipe,
        stride: int,
        device: torch.device,
        loader_workers: int,
    ) -> None:
        """`stride`: of which image sides are multiples, pixels; `loader_workers`: threads, 0 for none.

        Raises `BadMachine` if the cases cannot be sampled as the recipe says.
        """
        self.device, self.seed = device, recipe.seed
        self.sizes = [scaled_size(recipe.image_size, scale, stride) for scale in recipe.scales]
        self.cases = TrainingCases(cases, recipe)
        classes = None if recipe.sampling == "cases" else _classes(cases, case_ids, recipe.sampling)
        self.batches = GlobalBatches(case_ids, recipe.batch_size, recipe.seed, classes)
        self.threads = ThreadPoolExecutor(loader_workers) if loader_workers else None
        self.ahead = 2 * loader_workers

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, 3, S, S) in [0, 1] and masks (B, 1, S, S) in {0, 1}, B this worker's share.

        S is that of the recipe times one of its `scales`: equal for all workers, sampled by epoch and step.
        """
        self.batches.epoch = epoch
        for step, (image, mask) in enumerate(prefetched(self._batch, self.batches, self.threads, self.ahead)):
            size = self.sizes[np.random.default_rng((self.seed, epoch, step)).integers(len(self.sizes))]
            yield resized(*on_device(image, mask, self.device), size)

    def _batch(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor]:
        return self.cases.batch(keys, pinned=self.device.type == "cuda")


def _classes(cases: CachedCases, case_ids: Sequence[str], sampling: Sampling) -> dict[str, list[str]]:
    known = {case.id: case for dataset in cases.datasets for case in dataset.cases}
    chosen = [known[case_id] for case_id in case_ids]
    if (problem := sampling_problem(sampling, chosen)) is not None:
        raise BadMachine("recipe", problem)
    classes: dict[str, list[str]] = {}
    for case in chosen:
        classes.setdefault(class_of(case, sampling), []).append(case.id)
    return classes


def prefetched(
    make: Callable[[Item], Result], items: Iterable[Item], threads: ThreadPoolExecutor | None, ahead: int
) -> Iterator[Result]:
    """Yield make(item) for each item, in order, while threads prepare up to `ahead` further results."""
    if threads is None:
        yield from map(make, items)
        return
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(threads.submit(make, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class ValidationBatches:
    """This worker's share of the validation cases, in a fixed order."""

    def __init__(
        self, cases: CachedCases, case_ids: Sequence[str], batch_size: int, device: torch.device
    ) -> None:
        self.case_ids = tuple(case_ids)[workers.rank() :: workers.size()]
        self.device = device
        self.loader: DataLoader[Any] = DataLoader(
            ValidationCases(cases),
            batch_sampler=[
                list(self.case_ids[start : start + batch_size])
                for start in range(0, len(self.case_ids), batch_size)
            ],
            pin_memory=device.type == "cuda",
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, 3, S, S) in [0, 1] and masks (B, 1, S, S) in {0, 1}."""
        for image, mask in self.loader:
            yield on_device(image, mask, self.device)


def scaled_size(image_size: int, scale: float, stride: int) -> int:
    """The multiple of `stride` nearest to image_size x scale, in pixels; at least one stride."""
    return max(stride, round(image_size * scale / stride) * stride)


def resized(image: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """image (B, 3, S, S), mask (B, 1, S, S) in {0, 1} -> sides of `size`, bilinear; the mask is thresholded at 0.5."""
    if image.shape[-1] == size:
        return image, mask
    image, mask = (F.interpolate(part, (size, size), mode="bilinear") for part in (image, mask))
    return image, (mask > 0.5).float()


def on_device(image: Tensor, mask: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """uint8 -> float32: images in [0, 1], masks in {0, 1}."""
    if device.type == "cpu":
        # NumPy converts and divides piece by piece: the same bits for half the memory traffic.
        pixels = np.true_divide(image.numpy(), np.float32(255), dtype=np.float32)
        return torch.from_numpy(pixels), mask.float()
    return to_device(image, device).div_(255), to_device(mask, device)


def to_device(value: Tensor, device: torch.device) -> Tensor:
    return value.to(device, non_blocking=True).float()
