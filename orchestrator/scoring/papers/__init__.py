"""The programs behind the papers' "Dice" and "mIoU", each under a name that says which one it is.

A score takes pairs of a probability map (H, W), floats in [0, 1], and its mask (H, W) as stored: bool, or uint8 from 0
to 255, for programs differ in what they count as polyp. `PAPER_SCORES[name](pairs)` is the number that a table shows,
and `.of_images(pairs)` the values (N,) that it is the mean of, where the definition has such. A thresholded prediction
is a map of zeros and ones. `.program` says whether that program read maps or masks, at which size, and how it resizes
the mask; where it does not, mask and map must have one shape.

Which program a paper ran is not always stated; what is said here was read in the published code. What reports should
show is `dice_image` and its kin: one threshold, polyp only, mean over images, empty masks as in metrics.py.
"""

from orchestrator.scoring.papers import (
    endocv,
    keras_metrics,
    mediaeval,
    own,
    pranet,
    sklearn_scripts,
    soft,
    uacanet,
)
from orchestrator.scoring.papers.score import PAPER_SCORES, PaperScore, paper_scores, reduced

__all__ = [
    "PAPER_SCORES",
    "PaperScore",
    "endocv",
    "keras_metrics",
    "mediaeval",
    "own",
    "paper_scores",
    "pranet",
    "reduced",
    "sklearn_scripts",
    "soft",
    "uacanet",
]
