"""An exported model scored by the programs of the papers: each reads of a prediction what it read there, at that size.

A score is asked for by its name, which says what its program read: the probability map or the exported mask. `NAME@map`
and `NAME@mask` choose the other: `dice_pranet@mask` scores the masks that `predict` writes by PraNet's protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from orchestrator.common.errors import BadData
from orchestrator.data.cases import Case
from orchestrator.data.images import read_grey_mask, read_image
from orchestrator.data.resize import resize_probability
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.scoring.papers.registry import PAPER_SCORES, PaperScore, reduced
from orchestrator.scoring.papers.score import Map, Pair, Reads
from orchestrator.scoring.postprocess import PostProcess

OPTION = "--paper-score"


@dataclass(frozen=True)
class RequestedScore:
    """A score by the name that the user gave."""

    name: str  # with @map or @mask where that was asked for
    score: PaperScore

    @property
    def size(self) -> str:
        """The size at which images are scored, in words."""
        size = self.score.program.size
        return "the size of the file" if size is None else f"{size} x {size}"

    @property
    def explained(self) -> str:
        """Input and size of a score's program, and the definition of the score, in words."""
        read = "probability map" if self.score.program.reads == "map" else "exported mask"
        return f"of the {read} at {self.size}; {self.score.meaning}"


def asked_for(names: Sequence[str], num_cases: int) -> list[RequestedScore]:
    """The scores of these names. Raises `BadData` with every problem: unknown names, scores that need more images."""
    problems, asked = [], []
    for name in dict.fromkeys(names):
        base = name.partition("@")[0]
        if base not in PAPER_SCORES:
            problems.append(f"no score is named {base}; known: {', '.join(PAPER_SCORES)}")
        elif name not in _readings(base):
            problems.append(f"{name}: expected {' or '.join(_readings(base))}")
        elif num_cases < (least := PAPER_SCORES[base].num_needed):
            problems.append(f"{name} needs {least} images, found {num_cases}")
        else:
            asked.append(RequestedScore(name, _readings(base)[name]))
    if problems:
        raise BadData(OPTION, problems)
    return asked


def _readings(base: str) -> dict[str, PaperScore]:
    """A score as its program reads predictions, and by each way of reading them."""
    score = PAPER_SCORES[base]
    ways: tuple[Reads, ...] = get_args(Reads)
    return {base: score} | {
        f"{base}@{reads}": replace(score, program=replace(score.program, reads=reads)) for reads in ways
    }


def paper_scores_of(
    bundle: ExportedModel, cases: Sequence[Case], asked: Sequence[RequestedScore]
) -> list[float]:
    """The number of each score, in their order; masks are read as stored. Nothing is predicted where none is asked."""
    if not asked:
        return []
    return reduced([one.score for one in asked], _views(bundle, cases, [one.score for one in asked]))


def _views(
    bundle: ExportedModel, cases: Sequence[Case], scores: Sequence[PaperScore]
) -> Iterator[list[Pair]]:
    """One pair of prediction and mask per score, image after image; the network sees each image once."""
    for case in cases:
        image, mask = read_image(case.image), read_grey_mask(case.mask)
        network_map, views = bundle.network_map(image), {}
        for program in {(score.program.reads, score.program.size) for score in scores}:
            views[program] = view_of(network_map, image.shape[:2], bundle.config.masks, *program)
        yield [(views[score.program.reads, score.program.size], mask) for score in scores]


def view_of(
    network_map: Map, shape: tuple[int, int], masks: PostProcess, reads: Reads, size: int | None
) -> Map:
    """The map (H, W) that a program gets of a network's: of probabilities, or of zeros and ones where it reads masks.

    `shape`: of the image's file; `masks` are made at that size.
    """
    if reads == "map":
        return resize_probability(network_map.astype(np.float32), *(shape if size is None else (size, size)))
    mask = masks.apply(resize_probability(network_map.astype(np.float32), *shape))
    view = mask.astype(np.float32)
    return view if size is None else (resize_probability(view, size, size) > 0.5).astype(np.float32)
