"""Three measures of PraNet's tables that depend on where errors are: weighted F, S-measure and E-measure.

They take the map as PraNet's protocol stores it (pranet.py): scaled to 0..1, in 8 bit. Constants, centers and
denominators are those of the published evaluation program, so that a perfect mask of N pixels has an E-measure of
N / (N - 1).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from orchestrator.scoring.histograms import counts, histogram_of_bins
from orchestrator.scoring.papers.score import Values

TINY = np.finfo(np.float64).eps
REACH = 3  # pixels within which errors are combined
BLUR = np.outer(*(cv2.getGaussianKernel(2 * REACH + 1, 5).ravel(),) * 2)
HALF_DISTANCE = 5  # pixels from the polyp at which a false alarm has the weight 1.5, on the way from 1 to 2

Bools = NDArray[np.bool_]


def weighted_f(prediction: Values, truth: Bools) -> float:
    """Weighted F-measure, beta 1 (Margolin et al., CVPR 2014), of a map in [0, 1] on a mask, both (H, W).

    An error inside the polyp counts less where its surroundings are correct, a false alarm more with its distance from
    the polyp. A mask without polyp is 0.
    """
    if not truth.any():
        return 0.0
    error = np.abs(prediction - truth)
    single = cv2.distanceTransform((~truth).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = np.sqrt(np.rint(np.square(single, dtype=np.float64)))  # squares of distances are whole numbers
    near = _surroundings(truth)  # what the blur of a pixel of the polyp reaches
    rows, columns = distance_transform_edt(~truth[near], return_distances=False, return_indices=True)
    blurred = cv2.filter2D(error[near][rows, columns], -1, BLUR, borderType=cv2.BORDER_CONSTANT)
    missed = np.minimum(error[near], blurred)[truth[near]]
    false_alarms = (error * (2 - np.exp2(-distance / HALF_DISTANCE)))[~truth].sum()
    found = truth.sum() - missed.sum()
    recall, precision = 1 - missed.mean(), found / (found + false_alarms + TINY)
    return float(2 * recall * precision / (recall + precision + TINY))


def _surroundings(truth: Bools) -> tuple[slice, slice]:
    """Rows and columns of the rectangle around the polyp, wider by REACH pixels on each side."""
    rows, columns = (np.flatnonzero(truth.any(axis=axis)) for axis in (1, 0))
    return tuple(slice(max(0, at[0] - REACH), at[-1] + REACH + 1) for at in (rows, columns))  # type: ignore[return-value]


def s_measure(prediction: Values, truth: Bools) -> float:
    """Structure measure, alpha 0.5 (Fan et al., ICCV 2017), of a map in [0, 1] on a mask, both (H, W).

    Half of it is the evenness of the map over polyp and background, half the similarity of the four parts around the
    polyp's center. A mask of a single class is scored by the mean of the map.
    """
    share = truth.mean()
    if share in (0, 1):
        return float(prediction.mean() if share else 1 - prediction.mean())
    objects = share * _evenness(prediction[truth]) + (1 - share) * _evenness(1 - prediction[~truth])
    y, x = (int(np.floor(at.mean() + 0.5)) + 1 for at in np.nonzero(truth))
    quarters = [
        (rows, columns) for rows in (slice(y), slice(y, None)) for columns in (slice(x), slice(x, None))
    ]
    regions = sum(truth[at].size * _similarity(prediction[at], truth[at]) for at in quarters) / truth.size
    return float(max(0.0, (objects + regions) / 2))


def _evenness(values: Values) -> float:
    """2 m / (m^2 + 1 + s) of the mean m and standard deviation s of the values of one class."""
    mean, spread = values.mean(), values.std(ddof=1) if values.size > 1 else 0.0
    return float(2 * mean / (mean**2 + 1 + spread + TINY))


def _similarity(prediction: Values, truth: Bools) -> float:
    """Structural similarity of two parts; 1 if the denominator is 0."""
    if not truth.size:
        return 0.0
    (a, b), num = (prediction.mean(), truth.mean()), truth.size - 1 + TINY
    spread_a, spread_b = ((prediction - a) ** 2).sum() / num, ((truth - b) ** 2).sum() / num
    above = 4 * a * b * ((prediction - a) * (truth - b)).sum() / num
    below = (a**2 + b**2) * (spread_a + spread_b)
    return float(above / (below + TINY)) if above else float(below == 0)


def e_measure_curve(stored: NDArray[np.uint8], truth: Bools) -> Values:
    """Enhanced-alignment measure (Fan et al., IJCAI 2018) of a map thresholded at each of 0..255: (256,).

    Both masks are centered; a pixel counts by the agreement of the two. A mask without polyp scores the share of
    background predictions, one that is polyp everywhere the share of polyp predictions.
    """
    tp, fp, fn, tn = (
        pixels[0].astype(np.float64) for pixels in counts(histogram_of_bins(stored, truth)[None])
    )
    if truth.all() or not truth.any():
        agreed = tp if truth.any() else tn
    else:
        predicted, polyp = (tp + fp) / truth.size, truth.mean()
        agreed = (
            tp * _agreement(1 - predicted, 1 - polyp)
            + fp * _agreement(1 - predicted, -polyp)
            + fn * _agreement(-predicted, 1 - polyp)
            + tn * _agreement(-predicted, -polyp)
        )
    return np.asarray(agreed / (truth.size - 1 + TINY))


def _agreement(a: Values, b: float) -> Values:
    return np.asarray((2 * a * b / (a**2 + b**2 + TINY) + 1) ** 2 / 4)
