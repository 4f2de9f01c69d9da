"""Records of a growing study, from which sinks write results. A file is read again only where it changed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.sinks.measures import Interval, trial_metrics
from orchestrator.search.goals.goals import SecondaryGoals
from orchestrator.search.goals.objective import Objective
from orchestrator.search.race.verdict_log import parse_verdicts
from orchestrator.search.records.cut_fits import CutFit, parse_cut_fits
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.partial_score import NOTHING_SEEN, SeenFolds
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.space import Configuration, SearchSpace
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import STATES, StudyTrial, read_trial
from orchestrator.selection.reevaluation import existing_reevaluation_plan, reevaluation_specs


@dataclass(frozen=True)
class FinishedFit:
    """A fit on record, as a fold of one of the trials that it belongs to."""

    trial: int
    fit_id: str
    fold: str  # "fold 0", or the name of what is validated on; "re-evaluation fold 0"
    label: str  # its short name: "0", "re-evaluation-0"
    is_reevaluation: bool


@dataclass(frozen=True)
class KnownTrial:
    """A trial as Optuna has it, with its configuration and the names of its fits."""

    trial: FrozenTrial
    params: dict[str, Any]  # searched and fixed
    configuration: Configuration
    fit_ids: tuple[str, ...]  # of its folds

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def state(self) -> str:
        """ "complete", "stopped", "failed" or "open", as in `StudyTrial`."""
        return STATES.get(self.trial.state, "open")

    @property
    def is_over(self) -> bool:
        return self.trial.state.is_finished()


class StudyRecords:
    """Follows the records of one study; `update` reads what has changed. Used by one thread."""

    def __init__(self, study: StudyStore) -> None:
        self.study = study
        self.trials: dict[int, KnownTrial] = {}
        self.on_record: frozenset[str] = frozenset()  # names of fits
        self.verdicts: dict[int, dict[str, Any]] = {}  # the last one of every trial
        self.seen_folds: dict[int, SeenFolds] = {}
        self.cut_fits: dict[int, list[CutFit]] = {}  # by trial
        self._verdict_lines = _GrowingLines(study.race_file)
        self._cut_lines = _GrowingLines(study.ledger.cut_fits)
        self._reevaluation_plan: SplitPlan | None = None
        self._reevaluation_fits: dict[int, tuple[str, ...]] = {}

    @cached_property
    def space(self) -> SearchSpace:
        return self.study.space()

    @cached_property
    def plan(self) -> SplitPlan:
        return self.study.plan()

    @cached_property
    def datasets(self) -> tuple[tuple[Dataset, ...], tuple[Dataset, ...]]:
        """Datasets that are trained on, and those that are tests alone."""
        return self.study.datasets()

    @cached_property
    def objective(self) -> Objective:
        return self.study.objective()

    @cached_property
    def secondary(self) -> SecondaryGoals:
        return self.study.secondary()

    def update(self) -> None:
        """Read what is new: trials first, for the fits and the verdict of a trial are on record before it is over."""
        for trial in self._stored():
            known = self.trials.get(trial.number)
            if known is None or known.trial is not trial:
                self._know(trial, known)
        for line in parse_verdicts(self._verdict_lines.new()):
            number = line["trial"]
            self.verdicts[number] = line
            self.seen_folds[number] = self.seen_folds.get(number, NOTHING_SEEN).then(line)
        for cut in parse_cut_fits(self._cut_lines.new()):
            self.cut_fits.setdefault(cut.trial, []).append(cut)
        self.on_record = _names_in(self.study.ledger.fits)

    def fits_of(self, known: KnownTrial) -> list[FinishedFit]:
        """The fits of a trial that are on record: of its folds, then of its re-evaluation."""
        found = [
            FinishedFit(known.number, fit_id, fold.name, fold_label(fold.name, fold.index), False)
            for fold, fit_id in zip(self.plan.folds, known.fit_ids, strict=True)
            if fit_id in self.on_record
        ]
        if known.state != "complete" or (plan := self._plan_of_reevaluation()) is None:
            return found
        if known.number not in self._reevaluation_fits:
            specs = reevaluation_specs(known.configuration, plan)
            self._reevaluation_fits[known.number] = tuple(spec.fit_id for spec in specs)
        return found + [
            FinishedFit(
                known.number, fit_id, f"re-evaluation {fold.name}", f"re-evaluation-{fold.index}", True
            )
            for fold, fit_id in zip(plan.folds, self._reevaluation_fits[known.number], strict=True)
            if fit_id in self.on_record
        ]

    def find(self, fit: FinishedFit) -> FitRecord | None:
        """The record of a fit; None where it does not read."""
        return self.study.ledger.find(fit.fit_id)

    def read_trial(self, known: KnownTrial) -> StudyTrial:
        """A trial with the records of its folds."""
        look = self.seen_folds.get(known.number)
        return read_trial(known.trial, self.space, self.plan, self.study.ledger, look)

    def metrics_of(self, trial: StudyTrial) -> dict[str, float]:
        """Metrics of a trial that is over, by the names that MLflow and the CSV files have for them."""
        known = self.cut_fits.get(trial.number, ())
        cut = [one.rows for one in known if not self._is_seen(one, trial)]
        return trial_metrics(trial, self.objective, self.secondary, self._interval(trial), cut)

    def _is_seen(self, cut: CutFit, trial: StudyTrial) -> bool:
        """Whether a fit that was cut was finished after all, as one of the folds of its trial."""
        return cut.fit_id in {record.fit_id for record in trial.records}

    def _interval(self, trial: StudyTrial) -> Interval | None:
        """95 % interval of a trial's Dice over whole groups; None if folds are missing, or of one group."""
        if trial.state != "complete" or (score := trial.score()) is None:
            return None
        low, high = self._groups.interval(score.dice_of_case, score.case_ids)
        return (low, high) if math.isfinite(low + high) else None

    @cached_property
    def _groups(self) -> StudySnapshot:
        """Snapshot that intervals are computed with: the groups of cases, which never change."""
        return self.study.snapshot()

    def _plan_of_reevaluation(self) -> SplitPlan | None:
        """Split of the re-evaluation; None where nothing was re-evaluated."""
        if self._reevaluation_plan is None:
            self._reevaluation_plan = existing_reevaluation_plan(self.study.snapshot())
        return self._reevaluation_plan

    def _stored(self) -> Sequence[FrozenTrial]:
        """All trials; while the study runs, those on record, which are read again where they changed."""
        if self.trials and len(on_record := self.study.ledger.trials.read()) >= len(self.trials):
            return on_record
        return self.study.stored_trials()

    def _know(self, trial: FrozenTrial, known: KnownTrial | None) -> None:
        if trial.state == TrialState.WAITING or (params := self.space.drawn(trial.params)) is None:
            return
        if known is not None and known.trial.params == trial.params:
            self.trials[trial.number] = KnownTrial(trial, known.params, known.configuration, known.fit_ids)
            return
        configuration = self.space.configuration(params)
        fit_ids = tuple(spec.fit_id for spec in fold_specs(configuration, self.plan))
        self.trials[trial.number] = KnownTrial(trial, params, configuration, fit_ids)


class _GrowingLines:
    """The whole lines that were added to a text file since the last call; from its beginning where it was replaced."""

    def __init__(self, file: Path) -> None:
        self.file, self.offset = file, 0

    def new(self) -> list[str]:
        try:
            with self.file.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self.offset:
                    self.offset = 0
                file.seek(self.offset)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.decode(errors="replace").split("\n")[:-1]


def fold_label(name: str, fold: int) -> str:
    """The short name of a fold: its number, or the name of what it validates on."""
    return str(fold) if name == f"fold {fold}" else name


def _names_in(folder: Path) -> frozenset[str]:
    """Names of records that are whole; hidden ones are being written."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if not entry.name.startswith("."))
    except FileNotFoundError:
        return frozenset()
