"""The protocol of UACANet (Kim et al., arXiv:2107.02368): PraNet's scores of maps that are thresholded before storage.

A map is scaled to 0..1 and thresholded at 0.5, so 255 of the 256 thresholds give one mask, and the last one, 0, makes
every pixel polyp. The masks of an exported model at its own threshold are scored likewise by `dice_pranet@mask`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from orchestrator.scoring.papers import pranet
from orchestrator.scoring.papers.score import PAPER_SCORES, Map, Mask, Measure


def _on_cut(measure: Measure) -> Callable[[Map, Mask], ArrayLike]:
    return lambda probabilities, mask: measure(
        (pranet.stretched(probabilities) > 0.5).astype(np.float32), mask
    )


for score in pranet.SCORES:
    name = score.name.replace("pranet", "uacanet")
    meaning = f"{score.name} of a map that was stretched and cut at 0.5 before. {score.meaning}"
    PAPER_SCORES[name] = replace(score, name=name, meaning=meaning, measure=_on_cut(score.measure))
