"""Every score of the programs behind the papers' "Dice" and "mIoU", by a distinctive name.

A score takes pairs of a probability map (H, W), floats in [0, 1], and its mask (H, W) as stored: bool, or uint8 from 0
to 255, since programs differ in which values are polyp. `PAPER_SCORES[name](pairs)` is the number in a table, and
`.of_images(pairs)` the values (N,) of which it is the mean, if it is one. A thresholded prediction is a map of zeros
and ones. `.program` gives whether that program read maps or masks, at which size, and how it resizes the mask; if it
does not, mask and map must have one shape.

Papers do not always name their program; the statements here come from published code. Reports should show
`dice_image` and its siblings: one threshold, polyp only, mean over images, empty masks as in metrics.py.
"""

from __future__ import annotations

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
