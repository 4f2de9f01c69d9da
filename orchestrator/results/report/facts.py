"""What a report is made of, in plain values: no file is read once these exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]


@dataclass(frozen=True)
class FitFacts:
    """One finished fit of a trial."""

    fold: int
    dice: float  # mean over the fold's validation images, 0 to 1, at the trial's threshold
    seconds: float  # training and validation
    finished: float  # seconds since the epoch
    num_epochs: int
    best_epoch: int  # from 1
    curve: tuple[tuple[float, float], ...]  # (training loss, validation Dice) of each epoch


@dataclass(frozen=True)
class TrialFacts:
    """One trial: a configuration and what its folds have shown."""

    number: int
    state: str  # complete, stopped, failed, open
    searched: Mapping[str, object]
    fits: tuple[FitFacts, ...]
    num_folds: int
    dice: float | None  # over all folds; None unless complete
    interval: Interval | None  # 95 %, of the cross-fitted dice
    cross_fitted: float | None
    seen: float | None  # mean Dice over the folds that a stopped trial has
    reason: str | None  # why it was stopped or failed

    @property
    def shown(self) -> float | None:
        """Dice to plot: of all folds, else of the folds that are finished."""
        return self.dice if self.dice is not None else self.seen

    @property
    def hours(self) -> float:
        return sum(fit.seconds for fit in self.fits) / 3600


@dataclass(frozen=True)
class ScoreFacts:
    """Scores of one system on one set of images."""

    name: str
    num_cases: int
    num_groups: int | None
    scores: Mapping[str, float]  # metric -> mean over images, 0 to 1
    interval: Interval | None  # 95 %, of dice


@dataclass(frozen=True)
class DatasetFacts:
    """A dataset and what became of its cases."""

    name: str
    role: str  # searched on, or external
    num_cases: int
    num_groups: int | None  # None where groups are unknown
    num_centers: int
    num_empty: int  # without a polyp
    num_skipped: int  # files that the import left out
    num_dropped: int  # near-duplicates of training cases
    fingerprint: str


@dataclass(frozen=True)
class ChampionFacts:
    """The champion, case by case."""

    trial: int
    folds: tuple[ScoreFacts, ...]
    scores: tuple[ScoreFacts, ...]  # cross-validation, hold-out, external datasets
    case_ids: tuple[str, ...]
    dice: NDArray[np.float64]  # (N,) of the validation cases, cross-fitted
    polyp_share: NDArray[np.float64]  # (N,) of the frame, 0 to 1
    centers: tuple[str, ...]  # (N,), "" where unknown
    histograms: NDArray[
        np.integer
    ]  # (2, 256): pixels outside and inside masks by probability, over all cases
    by_threshold: NDArray[np.float64]  # (256,) mean Dice at threshold b/256
    threshold: float
    worst: tuple[tuple[str, bytes], ...] = ()  # case id and PNG


@dataclass(frozen=True)
class StudyFacts:
    """One study."""

    name: str
    network: str
    objective: str
    race: str
    sampler: str
    seed: int
    state: str
    budget: Mapping[str, object]
    space: str  # the TOML file
    split: str  # name
    split_digest: str
    splits: tuple[tuple[str, int, int], ...]  # fold, training cases, validation cases
    num_test: int
    num_near_duplicates: int | None  # pairs; None where they were not looked for
    groups_known: bool
    datasets: tuple[DatasetFacts, ...]
    trials: tuple[TrialFacts, ...]
    verdicts: tuple[tuple[float, int, str, str], ...]  # time, trial, action, reason
    selection: tuple[str, ...]  # sentences
    champion: ChampionFacts | None
    metrics: Mapping[str, float]  # of the champion: parameters, gmacs, images per second, where known
    devices: Mapping[str, int]  # name -> fits
    lanes: str
    initial: str  # how weights begin
    versions: Mapping[str, str]
    commands: tuple[str, ...]
    remarks: tuple[str, ...] = field(default=())

    @property
    def num_fits(self) -> int:
        return sum(len(trial.fits) for trial in self.trials)

    @property
    def num_saved(self) -> int:
        """Fits that the race did not train: folds that stopped trials lack."""
        return sum(trial.num_folds - len(trial.fits) for trial in self.trials if trial.state == "stopped")

    @property
    def hours(self) -> float:
        return sum(trial.hours for trial in self.trials)
