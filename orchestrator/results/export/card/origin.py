"""Sections on data: which, how they were split, how many images are left after each step, and what limits follow."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.data.splits.proportions import listed_reasons
from orchestrator.results.export.card.facts import DataFacts, ModelFacts, SplitFacts, TrainingFacts, num_range
from orchestrator.results.views.score_lines import ScoreLine

FEW_CASES = 500


def data_section(model: ModelFacts, data: Sequence[DataFacts], split: SplitFacts) -> str:
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
    """Number of a dataset's images as text, with how many were trained on if that is neither all nor none."""
    return f"{num_range(one.num_trained)} of {one.num_cases}" if one.num_trained else str(one.num_cases)


def _flow(model: ModelFacts, split: SplitFacts) -> str:
    """Sentences on the images left after each step, from the datasets to the training of the networks."""
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
    """Sentence on one network: its images, its epochs, and the epoch of its weights."""
    epochs = f"{one.num_epochs} of the {one.schedule} epochs of its schedule"
    if one.label == "refit":
        return (
            f"The refit was trained on {one.num_images} images for {epochs}: the median number that the\n"
            "folds took to their best epoch. It has the weights of the last one."
        )
    return (
        f"The network of {one.label} was trained on {one.num_images} images and validated on {one.num_validated}; it\n"
        f"ran {epochs} and has the weights of epoch {one.best_epoch}."
    )


def _dropped(count: int) -> str:
    return f"{count} unseen image{' was' if count == 1 else 's were'} dropped for being one of them."


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
        + _dropped(split.num_unseen_near_duplicates)
    )
    if split.dropped:
        left_out = listed_reasons(split.dropped)
        sentences.append(f"Left out of validation and tests, counted once per fold: {left_out}.")
    return "\n".join(sentences)


def limits(
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


def _groups(data: DataFacts) -> str:
    return "unknown" if data.num_groups is None else str(data.num_groups)
