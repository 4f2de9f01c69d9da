"""Sections on scores: their values, intervals, choice and threshold."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.results.export.card.facts import DataFacts, ModelFacts, SplitFacts, joined
from orchestrator.results.views.score_lines import CROSS_VALIDATION, ScoreLine, score_table
from orchestrator.scoring.statistics import FEW_GROUPS, few_groups

CHOSEN_BY = """\
Trials are compared image by image on validation images, at cross-fitted thresholds. One is called worse where a test
over images (groups drawn whole) and one over folds both say so at 5 %, corrected for the number of comparisons."""

WHOSE_MASKS = (
    "Folds, hold-out and unseen datasets: masks at the one threshold of the trial; cross-validation: each fold at the\n"
    "threshold of the other folds, so it need not be the mean of the rows of folds."
)

PROCEDURE = """\
No network of this file has that score: it is that of other champions, which the same search found without these images.
It says what to expect of the way in which this network was found."""


def choice(chosen: Sequence[str]) -> str:
    return "\n".join(["## How it was chosen", "", *(f"- {line}" for line in chosen), "", CHOSEN_BY])


def procedure(nested: Sequence[str]) -> str:
    return "\n".join(["## Nested cross-validation", "", *(f"- {line}" for line in nested), "", PROCEDURE])


def scores(lines: Sequence[ScoreLine], remarks: str) -> str:
    table = score_table(lines)
    fewest = min((line.num_groups for line in lines if line.num_groups is not None), default=FEW_GROUPS)
    few = f" {sentence[0].upper()}{sentence[1:]}." if (sentence := few_groups(fewest)) else ""
    masks = f"{WHOSE_MASKS}\n" if any(line.name == CROSS_VALIDATION for line in lines) else ""
    return f"""\
## Scores

Means over images, in percent. On an image without polyp, Dice is 100 if nothing is predicted, else 0.
{masks}
{table}

The interval is a 95 % interval of the mean Dice. It draws whole groups: videos or patients where they are known,
else near-identical images together and all others one by one. It says how far the mean may move with other images of
the same kind. It does not cover another training run, another hospital or another endoscope.{few}

{remarks}"""


def optimism(model: ModelFacts, split: SplitFacts, total: ScoreLine, num_trials: int) -> str:
    text = (
        f'"{total.name}" was measured on the very images on which {num_trials} trials were compared, so the score of\n'
        "the one that was chosen is a little too good. So is each network's epoch, the best on its fold's images:\n"
        "0.6 ± 0.3 points of Dice for a small U-Net on Kvasir-SEG (tests/benchmarks/epoch_optimism.py)."
    )
    if split.num_folds == 1 and model.choice.is_open:
        text += (
            "\nIts threshold was chosen on these images as well, which makes it better still: there is one fold, so\n"
            "there are no others to choose it on, and nothing here is cross-fitted."
        )
    if model.num_trials > 1:
        text += (
            "\nIt, and the rows of folds, are of the mean over trials: in each fold, of the networks of that fold,\n"
            "which were not trained on its images. There is no such score of what is exported: the mean over all\n"
            "folds, or over networks that were trained on all of them."
        )
    elif model.members > 1:
        text += (
            "\nIt, and the rows of folds, are of the networks one by one. **Of their mean there is no such score**:\n"
            "others of the networks were trained on each of these images. The mask rule, too, was chosen for them\n"
            "one by one."
        )
    if split.num_repeats > 1:
        text += f"\nEvery image was validated {split.num_repeats} times, and counts once, with its mean."
    return text


def honest(
    model: ModelFacts, data: Sequence[DataFacts], split: SplitFacts, outside: Sequence[ScoreLine]
) -> str:
    if not outside and (split.num_test or any(one.role != "trained on" for one in data)):
        return "It was not scored yet on the images that were set aside; export it again when the search is over."
    if not outside and model.members > 1:
        return "No images were set aside, so the mean of the networks has no score at all."
    if not outside:
        return "No images were set aside, so there is no score that is free of this."
    return f"Scored once, after the search, and so free of this: {joined([line.name for line in outside])}."


def thresholds(model: ModelFacts) -> str:
    masks, choice = model.masks, model.choice
    bins = round(masks.threshold * 256)
    lines = [f"A pixel is polyp at a probability of {masks.threshold:.4f} ({bins}/256) or more."]
    if choice.threshold is None:
        low, high = choice.thresholds
        lines.append(
            f"It is the threshold between {low:g} and {high:g} with the highest mean score over the "
            "validation images.\nNo image of the test or of an unseen dataset had a say in it."
        )
    else:
        lines.append("It is a parameter of the trial, like its learning rate.")
    if masks.fill_holes:
        lines.append("Holes in a mask are filled.")
    if masks.min_component_area:
        lines.append(f"Components below {masks.min_component_area:.3%} of the frame are dropped.")
    if masks.reference_area or masks.white_level is not None:
        level = masks.threshold if masks.white_level is None else masks.white_level
        chosen = ", a share that validation images chose" if choice.reference_area is None else ""
        lines.append(
            f"An image of which no more than {masks.reference_area:.3%} has a probability of {level:.4f} counts as "
            f"one without a polyp{chosen}."
        )
    return "## Threshold\n\n" + "\n".join(lines)
