"""What a paper's score is, the program that it comes from, the list of all scores, and the steps that they share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

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
    """Resize a grey mask to (H, W), bilinear, as most programs prepare theirs."""
    return cv2.resize(mask, shape[::-1])  # type: ignore[return-value]


@dataclass(frozen=True)
class PaperScore:
    """One number of one program: what it measures on an image, and how it makes one number of a set."""

    name: str
    meaning: str  # definition, who used it, what empty masks do
    measure: Measure  # map, mask -> a number, or an array of them
    reduce: Callable[[Values], float]  # (N, ...) -> the number for the table
    program: Program
    num_needed: int = 1  # images without which there is no such number

    def __call__(self, pairs: Iterable[Pair]) -> float:
        return paper_scores(pairs, [self.name])[self.name]

    @property
    def is_mean_over_images(self) -> bool:
        """Whether images have values of their own, so that intervals and paired tests apply."""
        return self.reduce is mean

    def of_images(self, pairs: Iterable[Pair]) -> Values:
        """Score (N,) of each image. Refused with ValueError: a score of the whole set only."""
        if not self.is_mean_over_images:
            raise ValueError(f"{self.name} is a number of the whole set; images have none of their own")
        return np.array([self.of_image(*pair) for pair in pairs], dtype=np.float64)

    def of_image(self, probabilities: Map, mask: Mask) -> ArrayLike:
        """What `reduce` takes of one image; ValueError as for `paper_scores`."""
        _check(probabilities, mask)
        resize = self.program.resize_mask
        if resize is not None and mask.shape != probabilities.shape:
            mask = resize(grey(mask), probabilities.shape)
        return self.measure(probabilities, mask)


PAPER_SCORES: dict[str, PaperScore] = {}


@dataclass(frozen=True)
class Program:
    """A published evaluation program: what of a prediction it reads, and at which size."""

    reads: Reads = "map"  # the probability map, or the mask that the whole model makes of it
    size: int | None = None  # side of the square that it scores, in pixels; None: the size of the file
    resize_mask: Callable[[NDArray[np.uint8], tuple[int, ...]], NDArray[np.uint8]] | None = None

    def by_image(self, measure: Measure) -> PaperScore:
        """Register a score that is a mean over images, under the function's name."""
        return self._registered(measure, measure, mean)

    def of_set(
        self, measure: Measure, num_needed: int = 1
    ) -> Callable[[Callable[[Values], float]], PaperScore]:
        """Register a score of a whole set, from what `measure` gives for each image, stacked (N, ...)."""
        return lambda reduce: self._registered(reduce, measure, reduce, num_needed)

    def _registered(
        self, named: Callable, measure: Measure, reduce: Callable[[Values], float], num_needed: int = 1
    ) -> PaperScore:
        name, meaning = named.__name__, " ".join((inspect.getdoc(named) or "").split())
        PAPER_SCORES[name] = PaperScore(name, meaning, measure, reduce, self, num_needed)
        return PAPER_SCORES[name]


def paper_scores(pairs: Iterable[Pair], names: Sequence[str]) -> dict[str, float]:
    """Several scores in one pass over pairs, which may be a generator.

    Refused with ValueError: an unknown name, no pairs, shapes that do not fit, masks that are neither bool nor uint8,
    probabilities outside [0, 1].
    """
    unknown = [name for name in names if name not in PAPER_SCORES]
    if unknown:
        raise ValueError(f"no score is named {', '.join(unknown)}; known: {', '.join(sorted(PAPER_SCORES))}")
    chosen = [PAPER_SCORES[name] for name in names]
    return dict(zip(names, reduced(chosen, ([pair] * len(chosen) for pair in pairs)), strict=True))


def reduced(scores: Sequence[PaperScore], images: Iterable[Sequence[Pair]]) -> list[float]:
    """The number of each score; an image is one pair per score, for programs read different things of it.

    Refused with ValueError as in `paper_scores`.
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
    """A mask as it would lie on disk, 0 to 255."""
    return mask.astype(np.uint8) * np.uint8(255) if mask.dtype == np.bool_ else mask.view(np.uint8)


def is_polyp(mask: Mask) -> NDArray[np.bool_]:
    """Above the middle of the grey scale."""
    return grey(mask) > 127


def same_shape(map_shape: tuple[int, ...], mask_shape: tuple[int, ...]) -> None:
    """Refused with ValueError: a map and a mask of different shapes."""
    if map_shape != mask_shape:
        raise ValueError(f"a map of {map_shape} cannot be scored on a mask of {mask_shape}")


def counted(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Values:
    """Two masks (H, W) -> pixels (4,): tp, fp, fn, tn."""
    same_shape(predicted.shape, truth.shape)
    tp, predicted_pixels, true_pixels = (predicted & truth).sum(), predicted.sum(), truth.sum()
    fp, fn = predicted_pixels - tp, true_pixels - tp
    return np.array([tp, fp, fn, truth.size - tp - fp - fn], dtype=np.float64)


def over(numerator: float, denominator: float, *, empty: float) -> float:
    """A ratio, or what 0/0 shall be."""
    return float(numerator / denominator) if denominator else empty
