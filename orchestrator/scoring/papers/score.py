"""Definition and registry of the papers' scores, their programs, and common steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Map = NDArray[np.floating]
Mask = NDArray[np.bool_] | NDArray[np.uint8]
Pair = tuple[Map, Mask]
Values = NDArray[np.float64]
Measure = Callable[[Map, Mask], ArrayLike]
Reads = Literal["map", "mask"]


def mean(values: Values) -> float:
    return float(values.mean())


def by_opencv(mask: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A grey mask resized to (H, W), bilinear, as most programs do."""
    return cv2.resize(mask, shape[::-1])  # type: ignore[return-value]


@dataclass(frozen=True)
class PaperScore:
    """One score of one program: its measure on an image, and its reduction over a set."""

    name: str
    meaning: str  # definition, users, result for empty masks
    measure: Measure  # map, mask -> a number, or an array
    reduce: Callable[[Values], float]  # (N, ...) -> the number in the table
    program: Program
    num_needed: int = 1  # fewest images for which the score is defined

    def __call__(self, pairs: Iterable[Pair]) -> float:
        return paper_scores(pairs, [self.name])[self.name]

    @property
    def is_mean_over_images(self) -> bool:
        """Whether images have values of their own, so that intervals and paired tests apply."""
        return self.reduce is mean

    def of_images(self, pairs: Iterable[Pair]) -> Values:
        """Score (N,) of each image. ValueError: a score of the whole set only."""
        if not self.is_mean_over_images:
            raise ValueError(f"{self.name} is defined for the whole set only, not for images")
        return np.array([self.of_image(*pair) for pair in pairs], dtype=np.float64)

    def of_image(self, probabilities: Map, mask: Mask) -> ArrayLike:
        """The input of `reduce` for one image; ValueError as for `paper_scores`."""
        _check(probabilities, mask)
        resize = self.program.resize_mask
        if resize is not None and mask.shape != probabilities.shape:
            mask = resize(grey(mask), probabilities.shape)
        return self.measure(probabilities, mask)


PAPER_SCORES: dict[str, PaperScore] = {}


@dataclass(frozen=True)
class Program:
    """A published evaluation program: its input, and the size at which it scores."""

    reads: Reads = "map"  # the probability map, or the mask of the whole model
    size: int | None = None  # side of the square at which it scores, in pixels; None: the size of the file
    resize_mask: Callable[[NDArray[np.uint8], tuple[int, ...]], NDArray[np.uint8]] | None = None

    def by_image(self, measure: Measure) -> PaperScore:
        """Register a score that is a mean over images, under the function's name."""
        return self._registered(measure, measure, mean)

    def of_set(
        self, measure: Measure, num_needed: int = 1
    ) -> Callable[[Callable[[Values], float]], PaperScore]:
        """Register a score of a whole set, from `measure` of each image, stacked (N, ...)."""
        return lambda reduce: self._registered(reduce, measure, reduce, num_needed)

    def _registered(
        self,
        named: Callable[..., Any],
        measure: Measure,
        reduce: Callable[[Values], float],
        num_needed: int = 1,
    ) -> PaperScore:
        name, meaning = named.__name__, " ".join((inspect.getdoc(named) or "").split())
        PAPER_SCORES[name] = PaperScore(name, meaning, measure, reduce, self, num_needed)
        return PAPER_SCORES[name]


def paper_scores(pairs: Iterable[Pair], names: Sequence[str]) -> dict[str, float]:
    """Several scores in one pass over pairs, which may be a generator.

    ValueError: an unknown name, no pairs, shapes that do not fit, masks that are neither bool nor uint8, probabilities
    outside [0, 1].
    """
    unknown = [name for name in names if name not in PAPER_SCORES]
    if unknown:
        raise ValueError(f"no score is named {', '.join(unknown)}; known: {', '.join(sorted(PAPER_SCORES))}")
    chosen = [PAPER_SCORES[name] for name in names]
    return dict(zip(names, reduced(chosen, ([pair] * len(chosen) for pair in pairs)), strict=True))


def reduced(scores: Sequence[PaperScore], images: Iterable[Sequence[Pair]]) -> list[float]:
    """Value of each score over a set; an image is one pair per score, as programs read different predictions.
    ValueError as in `paper_scores`, also for no images.
    """
    rows = [[score.of_image(*pair) for score, pair in zip(scores, pairs, strict=True)] for pairs in images]
    if not rows:
        raise ValueError("nothing can be scored on no images")
    columns = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return [float(score.reduce(column)) for score, column in zip(scores, columns, strict=True)]


def _check(probabilities: Map, mask: Mask) -> None:
    if probabilities.ndim != 2 or mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
        raise ValueError(
            f"expected a map (H, W) and a mask (H, W), bool or uint8; "
            f"found {probabilities.shape} and {mask.dtype} {mask.shape}"
        )
    if not (probabilities.min(initial=0) >= 0 and probabilities.max(initial=0) <= 1):
        raise ValueError("probabilities must lie in [0, 1], found NaN or a value outside")


def grey(mask: Mask) -> NDArray[np.uint8]:
    """A mask as stored on disk, 0 to 255."""
    return mask.astype(np.uint8) * np.uint8(255) if mask.dtype == np.bool_ else mask.view(np.uint8)


def is_polyp(mask: Mask) -> NDArray[np.bool_]:
    """Whether pixels are above the middle of the grey scale."""
    return grey(mask) > 127


def same_shape(map_shape: tuple[int, ...], mask_shape: tuple[int, ...]) -> None:
    """Raise ValueError for a map and a mask of different shapes."""
    if map_shape != mask_shape:
        raise ValueError(f"a map of {map_shape} cannot be scored on a mask of {mask_shape}")


def counted(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Values:
    """Two masks (H, W) -> pixels (4,): tp, fp, fn, tn."""
    same_shape(predicted.shape, truth.shape)
    tp, predicted_pixels, true_pixels = (predicted & truth).sum(), predicted.sum(), truth.sum()
    fp, fn = predicted_pixels - tp, true_pixels - tp
    return np.array([tp, fp, fn, truth.size - tp - fp - fn], dtype=np.float64)


def over(numerator: float, denominator: float, *, empty: float) -> float:
    """A ratio, with `empty` for 0/0."""
    return float(numerator / denominator) if denominator else empty
