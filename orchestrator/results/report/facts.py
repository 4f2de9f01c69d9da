"""Facts of a report as plain values: with these, no file is read any more.

Scores are shares from 0 to 1. Those of trials are rows of the leaderboard, those of the champion lines of `best`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from orchestrator.results.views.by_network import NetworkStanding
from orchestrator.results.views.score_lines import ScoreLine
from orchestrator.scoring.components import PolypCounts
from orchestrator.scoring.statistics import Share
from orchestrator.search.choices import SEARCH_METRIC

Interval = tuple[float, float]
SEARCH, AGAIN, REFIT, CUT = "search", "re-evaluation", "refit", "cut before its end"  # kinds of fits


@dataclass(frozen=True)
class FitFacts:
    """One fit of a trial on one fold, or as much of it as was trained before it was cut."""

    fold: int  # from 0
    dice: (
        float | None
    )  # mean over the fold's validation images at the trial's threshold; None of a fit that was cut
    seconds: float  # training and validation
    finished: float | None  # seconds since 1970; None where no file says it
    best_epoch: int  # from 1
    curve: tuple[tuple[float, float], ...]  # (training loss, validation Dice) of each epoch

    @property
    def is_cut(self) -> bool:
        return self.dice is None


@dataclass(frozen=True)
class TrialFacts:
    """One trial: a configuration and what its folds have shown."""

    number: int
    state: str  # complete, stopped, failed, open
    searched: Mapping[str, object]
    fits: tuple[FitFacts, ...]  # finished ones
    num_folds: int
    dice: float | None  # over all folds; None unless complete
    interval: Interval | None  # 95 %, of the cross-fitted dice
    cross_fitted: float | None
    seen: float | None  # mean Dice over the finished folds of a trial without all
    reason: str | None  # why it was stopped or failed
    objective: float | None = None  # what trials are ranked by; None unless complete
    secondary: Mapping[str, float] = field(default_factory=dict)  # further objectives
    on_front: bool = False  # no trial is better in all objectives
    cut: tuple[FitFacts, ...] = ()  # fits that were cut before their end
    # Of a trial without all its folds: Dice less that of the incumbent on the same images, and the incumbent.
    against: tuple[float, int] | None = None

    @property
    def shown(self) -> float | None:
        """Dice to plot: of all folds, else of the folds that are finished."""
        return self.dice if self.dice is not None else self.seen

    @property
    def hours(self) -> float:
        """Hours of its fits, also of those that were cut."""
        return sum(fit.seconds for fit in (*self.fits, *self.cut)) / 3600


@dataclass(frozen=True)
class DatasetFacts:
    """A dataset and what became of its cases."""

    name: str
    role: str  # searched on, or external
    num_cases: int
    num_groups: int | None  # None where groups are unknown
    num_centers: int  # 0 where centers are unknown
    num_empty: int  # without a polyp
    skipped: Mapping[str, int]  # reason -> files that the import left out
    dropped: Mapping[str, int]  # reason -> cases that the split uses nowhere
    num_test: int  # held out for the test
    num_in_folds: int  # cases that folds train on and validate
    fingerprint: str
    layout: str = ""  # the published archive it was recognised as
    remarks: tuple[str, ...] = ()
    card: Mapping[str, str] = field(default_factory=dict)  # what its owner stated: licence, dates, annotators
    frame: tuple[int, int] = (0, 0)  # median height and width in pixels

    @property
    def num_skipped(self) -> int:
        return sum(self.skipped.values())

    @property
    def num_dropped(self) -> int:
        return sum(self.dropped.values())


@dataclass(frozen=True)
class WorstCase:
    """An image of low Dice."""

    case_id: str
    dice: float
    polyp_share: float  # of the frame


@dataclass(frozen=True)
class ChampionFacts:
    """The trial that `best` names, case by case."""

    trial: int
    network: str  # which one has the scores outside the folds: "that of fold 2, of median Dice"
    params: Mapping[str, object]  # all parameters, searched and fixed
    recipe: Mapping[
        str, object
    ]  # of the training, what papers always say, and all that is not the program's default
    options: Mapping[str, object]  # of the network: its encoder, and what is not the default
    folds: tuple[ScoreLine, ...]
    scores: tuple[ScoreLine, ...]  # cross-validation, hold-out, external datasets
    strata: tuple[ScoreLine, ...]  # validation images by dataset, center, class, size and presence
    dice: NDArray[np.float64]  # (N,) of the validation cases, cross-fitted if `is_cross_fitted`
    histograms: NDArray[
        np.integer
    ]  # (2, 256): pixels outside and inside masks by probability, over all cases
    by_threshold: NDArray[np.float64]  # (256,) mean Dice at threshold b/256
    threshold: float
    is_swept: bool  # the threshold was chosen on validation images
    is_cross_fitted: bool  # scores of a fold use what the other folds chose
    found: Share  # images with a polyp whose mask touches it
    left_empty: Share  # images without a polyp that got no mask
    worst: tuple[WorstCase, ...] = ()  # the lowest Dice of all first
    pictures: tuple[
        tuple[WorstCase, bytes], ...
    ] = ()  # JPEG of those of low Dice whose probability map was kept
    polyps: Mapping[str, PolypCounts] = field(
        default_factory=dict
    )  # as objects, by the name of a line of `scores`, where an export has counted them
    missing: str | None = None  # why there is no score on images outside the folds


@dataclass(frozen=True)
class Gain:
    """The winner less another trial on the same images, corrected for the number of comparisons."""

    other: int
    what: str  # baseline, not significantly different, better
    difference: float
    interval: Interval
    p_images: float
    p_folds: float | None
    p_value: float


@dataclass(frozen=True)
class CostFacts:
    """Number and hours of fits of one kind on one device."""

    kind: str  # search, re-evaluation, refit, cut before its end
    device: str
    is_gpu: bool
    num_fits: int
    hours: float  # of lanes
    device_hours: float  # hours of lanes times the devices that each holds


@dataclass(frozen=True)
class StudyFacts:
    """One study."""

    name: str
    network: str
    objective: str  # what trials are ranked by: "dice", "worst-fold dice"
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
    metrics: Mapping[str, float]  # of the champion: parameters, gmacs, fps, where known
    costs: tuple[CostFacts, ...]
    initial: str | None  # how weights begin; None where that is unknown
    versions: Mapping[str, str]
    commands: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    secondary: tuple[str, ...] = ()  # further objectives
    constraints: tuple[str, ...] = ()
    front: tuple[str, ...] = ()  # the Pareto front, a line each
    nested: tuple[str, ...] = ()  # the nested estimate, a sentence each
    reevaluated: tuple[tuple[int, float, float, float], ...] = ()  # finalist, search, re-evaluation, both
    gains: tuple[Gain, ...] = ()
    log_scaled: frozenset[str] = frozenset()  # parameters that the search space draws by their logarithm
    networks: tuple[NetworkStanding, ...] = ()  # the best trial of each, where there are several
    why_no_champion: str | None = None
    code: str = "unknown"  # revision
    machine: str = "unknown"
    program: str = ""  # its version

    @property
    def chosen_network(self) -> str:
        """The network of the champion; of a study without one, those that it chooses among."""
        return (
            self.network if self.champion is None else str(self.champion.params.get("network", self.network))
        )

    @property
    def is_mean(self) -> bool:
        """Whether trials are ranked by their mean Dice."""
        return self.objective == SEARCH_METRIC

    @property
    def goal(self) -> str:
        """The objective, as figures name it: "Dice", "worst-fold dice"."""
        return "Dice" if self.is_mean else self.objective

    @property
    def varied(self) -> list[str]:
        """Names of searched parameters of which trials have different values."""
        values: dict[str, set[str]] = {}
        for trial in self.trials:
            for name, value in trial.searched.items():
                values.setdefault(name, set()).add(str(value))
        return [name for name, found in values.items() if len(found) > 1]

    @property
    def num_fits(self) -> int:
        """Finished fits of the search."""
        return sum(len(trial.fits) for trial in self.trials)

    @property
    def num_saved(self) -> int:
        """Number of fits that the race did not train to their end: folds that stopped trials lack."""
        return sum(trial.num_folds - len(trial.fits) for trial in self.trials if trial.state == "stopped")

    @property
    def hours_saved(self) -> float | None:
        """Lane hours of the fits in `num_saved`, at the mean of finished fits, less those of cut fits."""
        if not self.num_fits or not self.num_saved:
            return None
        mean = sum(fit.seconds for trial in self.trials for fit in trial.fits) / self.num_fits / 3600
        cut = (
            sum(fit.seconds for trial in self.trials if trial.state == "stopped" for fit in trial.cut) / 3600
        )
        return max(0.0, mean * self.num_saved - cut)

    @property
    def hours(self) -> float:
        """Hours of lanes, over all fits of the study."""
        return sum(cost.hours for cost in self.costs)

    @property
    def device_hours(self) -> float:
        return sum(cost.device_hours for cost in self.costs)

    @property
    def fits_of(self) -> dict[str, int]:
        """Kind -> number of fits."""
        found: dict[str, int] = {}
        for cost in self.costs:
            found[cost.kind] = found.get(cost.kind, 0) + cost.num_fits
        return found

    def worth(self, trial: TrialFacts) -> float | None:
        """Value of a trial in plots: its objective; if that is mean Dice, also over finished folds alone."""
        return trial.shown if self.is_mean else trial.objective
