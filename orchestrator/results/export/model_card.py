"""The model card: what a bundle is, how well it works, on whom, and what it must not be used for.

Pure text from plain facts, which the exporting code gathers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import orchestrator
from orchestrator.results.export.card.evidence import (
    TIMED_ON,
    Evidence,
    citation,
    cost,
    failures,
    intended_use,
    intervals,
    licences,
    search,
    strata,
)
from orchestrator.results.export.card.facts import (
    DataFacts,
    Making,
    ModelFacts,
    SplitFacts,
    joined,
    num_range,
)
from orchestrator.results.export.card.front_matter import front_matter
from orchestrator.results.export.card.origin import data_section, limits
from orchestrator.results.export.card.scoring import choice, honest, optimism, procedure, scores, thresholds
from orchestrator.results.export.card.use import HOW_MADE, how_made, use
from orchestrator.results.views.score_lines import ScoreLine, score_table

TIMED_NOW = re.compile(rf"^{TIMED_ON} .*?$(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)  # a paragraph
MADE_NOW = re.compile(rf"{HOW_MADE}\n\n```\n.*?\n```\n\n[^,\n]*", re.DOTALL)  # the command line and the date


def model_card(
    model: ModelFacts,
    data: Sequence[DataFacts],
    split: SplitFacts,
    folds: Sequence[ScoreLine],
    cross_validated: ScoreLine,
    outside: Sequence[ScoreLine],
    making: Making,
    chosen: Sequence[str] = (),
    nested: Sequence[str] = (),
    evidence: Evidence | None = None,
) -> str:
    """Markdown. `outside`: the hold-out test and unseen datasets, in that order; empty if there are none.

    `chosen`: sentences about why it is this trial and which do not differ significantly. `nested`: what the whole
    procedure gives on new images. `evidence`: subgroups, search, costs, failures and statements, where they are known.
    """
    remarks = (
        optimism(model, split, cross_validated, making.num_trials),
        honest(model, data, split, outside),
    )
    alone = f" These are of the networks of trial {model.trial} alone." * (model.num_trials > 1)
    sections = [
        front_matter(model, data, [cross_validated, *outside]) + "\n\n" + _head(model),
        intended_use(),
        scores([*folds, cross_validated, *outside], "\n".join(remarks)),
        *([intervals(evidence, alone), strata(evidence, alone), failures(evidence)] if evidence else []),
        *([procedure(nested)] if nested else []),
        *([search(evidence)] if evidence else []),
        *([choice(chosen)] if chosen else []),
        thresholds(model),
        data_section(model, data, split),
        *([licences(evidence)] if evidence else []),
        limits(model, data, split, outside),
        *([cost(evidence)] if evidence else []),
        use(model),
        citation(model.study, orchestrator.__version__),
        how_made(model, making),
    ]
    return "\n\n".join(sections) + "\n"


def card_summary(model: ModelFacts, lines: Sequence[ScoreLine]) -> str:
    """Summary of a model as a few lines of Markdown: network, training images and scores."""
    trained = num_range([one.num_images for one in model.training])
    return f"""\
{model.summary}

Trial {model.trial} of the study `{model.study}`; weights: {model.weights}; trained on {trained} images. Research only.

Means over images, in percent. Validation scores are those of the networks of the folds.

{score_table(lines)}"""


def what_it_says(card: str) -> str:
    """A card without what differs between two exports of the same: command line, date, how long an image took."""
    return TIMED_NOW.sub(TIMED_ON, MADE_NOW.sub(HOW_MADE, card))


def _head(model: ModelFacts) -> str:
    return f"""\
# {model.network}: polyp segmentation

{model.summary}

Trial {model.trial} of the study `{model.study}`; weights: {model.weights}. Input: RGB images, resized to
{model.image_size} x {model.image_size}. Output: the probability that a pixel is polyp, and a mask.{_looks(model)}

**For research only. This is not a medical device and must not be used for diagnosis or treatment.**"""


def _looks(model: ModelFacts) -> str:
    """Sentence on the networks and views that are averaged inside model.onnx; "" if there are none."""
    looks = [f"{model.members} networks"] if model.members > 1 else []
    looks += ["the image and its three flips"] if model.tta == "flips" else []
    return (
        f"\nThat probability is the mean over {joined(looks)}; `model.onnx` does this itself."
        if looks
        else ""
    )
