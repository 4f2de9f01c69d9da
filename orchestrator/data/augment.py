"""One augmentation pipeline per name, seeded: the same image, mask and seed give the same result, always."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import albumentations

    Transforms = list[albumentations.BasicTransform | albumentations.BaseCompose]

# Else it asks the package index for its newest version, and waits where there is no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


class Pipeline:
    """Call it with image uint8 (S, S, 3), mask uint8 (S, S) and a seed: both come back, changed alike.

    One thread at a time: a call sets the seed of the transforms, then uses them.
    """

    def __init__(self, name: str, image_size: int) -> None:
        if name not in _PIPELINES:
            raise ValueError(f"no augmentation is named {name!r}; known: {', '.join(names())}")
        self.name = name
        self.image_size = image_size

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        return type(self), (self.name, self.image_size)

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        # Not set_random_seed: it gives each transform its own generator with the same seed, so that all draw
        # the same numbers, and an image is flipped both ways or not at all.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        changed = self._compose(image=image, mask=mask)
        return changed["image"], changed["mask"]

    @cached_property
    def _compose(self) -> albumentations.Compose:
        import albumentations  # takes nearly two seconds, and evaluation needs none of it

        return albumentations.Compose(_PIPELINES[self.name](self.image_size))


def pipeline(name: str, image_size: int) -> Pipeline:
    """The pipeline of that name for square images; ValueError lists the known names."""
    return Pipeline(name, image_size)


def names() -> tuple[str, ...]:
    return tuple(_PIPELINES)


def case_seed(seed: int, epoch: int, case_id: str) -> int:
    """32 bits that differ from epoch to epoch and case to case, and are the same on every machine."""
    digest = hashlib.blake2b(f"{seed} {epoch} {case_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def _none(image_size: int) -> Transforms:
    return []


def _flips(image_size: int) -> Transforms:
    import albumentations as A

    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]


def _standard(image_size: int) -> Transforms:
    """Flips, quarter turns, shift, scale and rotation, other light, a little blur."""
    import albumentations as A

    blur = max(3, image_size // 100 * 2 + 1)  # odd: 5 pixels at 256
    return [
        A.HorizontalFlip(p=0.5),
        A.VerticalFlip(p=0.5),
        A.RandomRotate90(p=0.5),
        A.Affine(
            translate_percent=(-0.1, 0.1),
            scale=(0.75, 1.25),
            rotate=(-30, 30),
            border_mode=cv2.BORDER_CONSTANT,  # black, as around the frames themselves
            p=0.7,
        ),
        A.ColorJitter(
            brightness=(0.75, 1.25), contrast=(0.75, 1.25), saturation=(0.75, 1.25), hue=(-0.03, 0.03), p=0.8
        ),
        A.OneOf([A.GaussianBlur(blur_limit=(3, blur), p=1), A.MotionBlur(blur_limit=(3, blur), p=1)], p=0.2),
    ]


_PIPELINES: dict[str, Callable[[int], Transforms]] = {
    "none": _none,
    "flips": _flips,
    "standard": _standard,
}
