"""The model card: what a bundle is, how well it works, on whom, and what it must not be used for.

Pure text from plain facts; whoever exports gathers them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.data.splits.split_file import NearDuplicateCounts
from orchestrator.results.views.score_lines import CROSS_VALIDATION, ScoreLine, score_table
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.scoring.statistics import FEW_GROUPS, few_groups

FEW_CASES = 500
HOW_MADE = "## How it was made"
MADE_NOW = re.compile(rf"{HOW_MADE}\n\n```\n.*?\n```\n\n[^,\n]*", re.DOTALL)  # the command line and the date
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

USAGE = Path(__file__).with_name("usage.py").read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class DataFacts:
    """One dataset that the model has to do with."""

    name: str
    fingerprint: str
    num_cases: int
    num_groups: int | None  # videos or patients; None: unknown
    role: str  # "trained on" or "never trained on"
    num_trained: tuple[int, ...] = ()  # of its images, that each network of the file was trained on


@dataclass(frozen=True)
class TrainingFacts:
    """How one network of the file was trained."""

    label: str  # "refit", "fold 4"
    num_images: int  # it was trained on
    num_validated: int  # images that chose its epoch; none in a refit
    num_epochs: int  # it ran
    best_epoch: int  # whose weights these are, from 1
    schedule: int  # epochs that its schedule spans
    recipe: Mapping[str, Any]  # every setting of the training, defaults included


@dataclass(frozen=True)
class SplitFacts:
    """How the cases were dealt."""

    name: str
    digest: str
    num_folds: int
    num_repeats: int  # folds that validate an image
    num_test: int
    num_cases: int  # of the datasets trained on
    num_in_folds: int  # of these, that some fold trains on or validates
    groups_known: bool
    num_near_duplicates: (
        NearDuplicateCounts | None
    )  # pairs of images that show one scene; None: they were not looked for
    num_unseen_near_duplicates: int  # images of unseen datasets that were dropped for such a pair
    dropped: Mapping[str, int]  # reason -> images that were left out for it


@dataclass(frozen=True)
class Making:
    """What it would take to make the model again."""

    command: str
    git_revision: str
    hardware: str
    versions: Mapping[str, str]
    date: str
    num_trials: int  # of the study, with a fold or more


@dataclass(frozen=True)
class ModelFacts:
    """What was exported."""

    study: str
    trial: int
    network: str
    summary: str  # one line about the network
    weights: str  # which training they come from
    params: Mapping[str, Any]  # all settings of the trial, flat
    image_size: int
    masks: PostProcess
    choice: MaskChoice  # what of it the trial's settings left open
    members: int = 1  # networks whose probabilities are averaged
    num_trials: int = 1  # that these are of: of several, the scores are those of their mean, fold by fold
    tta: str = "none"  # "flips": over views of the image too
    training: Sequence[TrainingFacts] = ()  # of each network


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
) -> str:
    """Markdown. `outside`: the hold-out test and unseen datasets, in that order; empty if there are none.

    `chosen`: sentences about why it is this trial and what cannot be told from it. `nested`: about what the whole
    procedure gives on new images.
    """
    remarks = (
        _optimism(model, split, cross_validated, making.num_trials),
        _honest(model, data, split, outside),
    )
    sections = [
        _head(model),
        _scores([*folds, cross_validated, *outside], "\n".join(remarks)),
        *([_procedure(nested)] if nested else []),
        *([_choice(chosen)] if chosen else []),
        _masks(model),
        _data(model, data, split),
        _limits(model, data, split, outside),
        _use(model),
        _making(model, making),
    ]
    return "\n\n".join(sections) + "\n"


def card_summary(model: ModelFacts, lines: Sequence[ScoreLine]) -> str:
    """What the file is and what it scored, in a few lines of Markdown."""
    trained = num_range([one.num_images for one in model.training])
    return f"""\
{model.summary}

Trial {model.trial} of the study `{model.study}`; weights: {model.weights}; trained on {trained} images. Research only.

Means over images, in percent. Validation scores are those of the networks of the folds.

{score_table(lines)}"""


def num_range(counts: Sequence[int]) -> str:
    """(278, 279, 278) -> 278 to 279."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def what_it_says(card: str) -> str:
    """A card without what differs between two exports of the same: the command line and the date."""
    return MADE_NOW.sub(HOW_MADE, card)


def _head(model: ModelFacts) -> str:
    return f"""\
# {model.network}: polyp segmentation

{model.summary}

Trial {model.trial} of the study `{model.study}`; weights: {model.weights}. Input: RGB images, resized to
{model.image_size} x {model.image_size}. Output: the probability that a pixel is polyp, and a mask.{_looks(model)}

**For research only. This is not a medical device and must not be used for diagnosis or treatment.**"""


def _looks(model: ModelFacts) -> str:
    """What is averaged inside, if anything."""
    looks = [f"{model.members} networks"] if model.members > 1 else []
    looks += ["the image and its three flips"] if model.tta == "flips" else []
    return (
        f"\nThat probability is the mean over {_and(looks)}; `model.onnx` does this itself." if looks else ""
    )


def _choice(chosen: Sequence[str]) -> str:
    return "\n".join(["## How it was chosen", "", *(f"- {line}" for line in chosen), "", CHOSEN_BY])


def _procedure(nested: Sequence[str]) -> str:
    return "\n".join(["## Nested cross-validation", "", *(f"- {line}" for line in nested), "", PROCEDURE])


def _scores(lines: Sequence[ScoreLine], remarks: str) -> str:
    table = score_table(lines)
    fewest = min((line.num_groups for line in lines if line.num_groups is not None), default=FEW_GROUPS)
    few = f" {sentence[0].upper()}{sentence[1:]}." if (sentence := few_groups(fewest)) else ""
    masks = f"{WHOSE_MASKS}\n" if any(line.name == CROSS_VALIDATION for line in lines) else ""
    return f"""\
## Scores

Means over images, in percent. On an image without polyp, Dice is 100 if nothing is predicted, else 0.
{masks}
{table}

The interval is a 95 % interval of the mean Dice over whole groups (videos, patients) where they are known
and over single images where they are not. It says how far the mean may move with other images of
the same kind. It does not cover another training run, another hospital or another endoscope.{few}

{remarks}"""


def _optimism(model: ModelFacts, split: SplitFacts, total: ScoreLine, num_trials: int) -> str:
    text = (
        f'"{total.name}" was measured on the very images on which {num_trials} trials were compared, so that of the\n'
        "one that was chosen is a little too good. So is each network's epoch, the best on its fold's images:\n"
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
            "which were not trained on its images. What is exported is the mean over all folds, or of networks that\n"
            "were trained on all of them: of that there is no such score."
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


def _honest(
    model: ModelFacts, data: Sequence[DataFacts], split: SplitFacts, outside: Sequence[ScoreLine]
) -> str:
    if not outside and (split.num_test or any(one.role != "trained on" for one in data)):
        return "It was not scored yet on the images that were set aside; export it again when the search is over."
    if not outside and model.members > 1:
        return "No images were set aside, so the mean of the networks has no score at all."
    if not outside:
        return "No images were set aside, so there is no score that is free of this."
    return f"Scored once, after the search, and so free of this: {_and([line.name for line in outside])}."


def _masks(model: ModelFacts) -> str:
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
        lines.append("It is a setting of the trial, like its learning rate.")
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


def _data(model: ModelFacts, data: Sequence[DataFacts], split: SplitFacts) -> str:
    rows = "\n".join(
        f"| {one.name} | {one.role} | {_images(one)} | {_groups(one)} | `{one.fingerprint}` |" for one in data
    )
    return f"""\
## Data

| dataset | | images | groups | fingerprint |
| --- | --- | ---: | ---: | --- |
{rows}

Split `{split.name}` (digest `{split.digest}`): {split.num_folds} fold{"" if split.num_folds == 1 else "s"}, \
{split.num_test} images held out for the test.
{_grouping(split)}

{_flow(model, split)}"""


def _images(one: DataFacts) -> str:
    """How many of a dataset's images were trained on, where that is not all or none."""
    return f"{num_range(one.num_trained)} of {one.num_cases}" if one.num_trained else str(one.num_cases)


def _flow(model: ModelFacts, split: SplitFacts) -> str:
    """How many images are left after each step, from the datasets to what the networks were trained on."""
    left_out = split.num_cases - split.num_test - split.num_in_folds
    steps = [f"{split.num_cases} images", f"less {split.num_test} held out for the test"]
    steps += [f"less {left_out} in no fold"] if left_out else []
    lines = [f"From images to training: {', '.join(steps)}, leaves {split.num_in_folds} for the folds."]
    labels = {one.label for one in model.training}
    if len(labels) == len(model.training):
        return "\n".join([*lines, *map(_trained, model.training)])
    images, epochs = (
        num_range(counts)
        for counts in zip(*((one.num_images, one.num_epochs) for one in model.training), strict=True)
    )
    lines.append(
        f"The {len(model.training)} networks were trained on {images} images each; they ran {epochs} epochs."
    )
    return "\n".join(lines)


def _trained(one: TrainingFacts) -> str:
    """One network: its images, its epochs, and which epoch's weights it has."""
    epochs = f"{one.num_epochs} of the {one.schedule} epochs of its schedule"
    if one.label == "refit":
        return (
            f"The refit was trained on {one.num_images} images for {epochs}: as many as the folds took to their best\n"
            "epoch, in the median. It has the weights of the last one."
        )
    return (
        f"The network of {one.label} was trained on {one.num_images} images and validated on {one.num_validated}; it\n"
        f"ran {epochs} and has the weights of epoch {one.best_epoch}."
    )


def _grouping(split: SplitFacts) -> str:
    sentences = [
        "Images of one group are never on both sides of a split."
        if split.groups_known
        else "Groups are unknown: images of one video or patient may be on both sides of a split."
    ]
    sentences.append(
        "Near-identical images were not looked for."
        if split.num_near_duplicates is None
        else f"Near-identical images were looked for: {split.num_near_duplicates} were found, and are on one side; "
        f"{split.num_unseen_near_duplicates} unseen images were dropped for being one of them."
    )
    if split.dropped:
        left_out = ", ".join(f"{num} ({reason})" for reason, num in split.dropped.items())
        sentences.append(f"Left out of validation and tests, counted once a fold: {left_out}.")
    return "\n".join(sentences)


def _limits(
    model: ModelFacts, data: Sequence[DataFacts], split: SplitFacts, outside: Sequence[ScoreLine]
) -> str:
    limits = [
        "Research only: no clinical study was done, no regulator has seen it.",
        "It was trained on still images that were chosen by people; video, other light modes and other "
        "organs are outside of what it has seen.",
    ]
    if not split.groups_known and split.num_near_duplicates is None:
        limits.append(
            "Groups are unknown, so near-identical images may be in training and validation, and the "
            "scores on validation and test images may be far too good."
        )
    elif not split.groups_known:
        limits.append(
            "Groups are unknown: near-identical images were kept together, but others of one patient may be in "
            "training and validation, and the scores on validation and test images may be too good."
        )
    counts = [one.num_images for one in model.training]
    if counts and min(counts) < FEW_CASES:
        who = "It" if model.members == 1 else "Each of its networks"
        limits.append(f"{who} was trained on {num_range(counts)} images, which is few.")
    if not any(one.role != "trained on" for one in data):
        limits.append("It was not tested on a dataset of another origin: expect it to do worse there.")
    limits += [
        f"{line.name}: {line.num_cases} images are too few for more than a rough idea."
        for line in outside
        if line.num_cases < 100
    ]
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _use(model: ModelFacts) -> str:
    is_plain = model.masks == PostProcess(model.masks.threshold)
    more = "" if is_plain else "\nThis leaves out the further rules of `post_processing` in `config.json`.\n"
    return f"""\
## How to use it

```
orchestrator predict THIS_FOLDER IMAGES... --out masks
```

or without the orchestrator, in this folder (`pip install numpy onnxruntime
opencv-python-headless pillow tifffile`):

```python
{USAGE}
```
{more}
To train on, load `model.safetensors` into `models.build({json.dumps(model.network)}, ...)` with the
parameters in `config.json`.{_prefixes(model)}"""


def _prefixes(model: ModelFacts) -> str:
    if model.members == 1:
        return ""
    return f"\nIts names begin with the number of the network, `0.` to `{model.members - 1}.`: take one at a time."


def _making(model: ModelFacts, making: Making) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(making.versions.items()))
    recipe = model.training[0].recipe if model.training else {}
    params = _listed(model.params)
    rest = _listed({name: value for name, value in recipe.items() if name not in model.params})
    return f"""\
{HOW_MADE}

```
{making.command}
```

{making.date}, revision {making.git_revision}, on {making.hardware}; {versions}.

Settings of the trial:

```
{params}
```

What they leave at its default, and the seed of the fit:

```
{rest}
```"""


def _listed(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())


def _groups(data: DataFacts) -> str:
    return "unknown" if data.num_groups is None else str(data.num_groups)


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
