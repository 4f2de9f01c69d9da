"""The facts of a model card, as the exporting code gathers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.data.splits.split_plan import NearDuplicateCounts
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.scoring.postprocess import PostProcess


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
    recipe: Mapping[str, Any]  # every parameter of the training, defaults included


@dataclass(frozen=True)
class SplitFacts:
    """How the cases were split."""

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
    """Facts for reproducing the model: command, revision, hardware, versions, date, number of trials."""

    command: str
    git_revision: str
    hardware: str
    versions: Mapping[str, str]
    date: str
    num_trials: int  # of the study, with a fold or more


@dataclass(frozen=True)
class ModelFacts:
    """Facts on the exported model: trial, network, parameters, masks, members, training."""

    study: str
    trial: int
    network: str
    summary: str  # one line about the network
    weights: str  # which training they come from
    params: Mapping[str, Any]  # all parameters of the trial, flat
    image_size: int
    masks: PostProcess
    choice: MaskChoice  # what of it the trial's settings left open
    members: int = 1  # networks whose probabilities are averaged
    num_trials: int = 1  # that these are of: of several, the scores are those of their mean, fold by fold
    tta: str = "none"  # "flips": over views of the image too
    training: Sequence[TrainingFacts] = ()  # of each network


def num_range(counts: Sequence[int]) -> str:
    """Range of counts as text: (278, 279, 278) -> "278 to 279"."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def joined(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
