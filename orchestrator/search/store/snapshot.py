"""A study as it stands on disk, each of its files read at most once: what every command that shows a study is given.

A part is read when it is first asked for, and kept. So a snapshot shows one moment; to see what has
happened since takes another one. Nothing in the folder of the study is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from orchestrator.common.errors import BadStudy
from orchestrator.common.stored_json import Unreadable, read_json
from orchestrator.data.cases import Dataset, load_datasets
from orchestrator.data.splits.plan import group_of_case
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.goals.goals import SecondaryGoals, front, secondary_goals
from orchestrator.search.goals.network_sizes import NetworkSizes
from orchestrator.search.goals.objective import Objective, objective_over
from orchestrator.search.race.verdict_log import parse_verdicts, split_verdicts
from orchestrator.search.records.cut_fits import CutFit, by_trial, parse_cut_fits
from orchestrator.search.records.fit_records import (
    FitRecord,
    FitSummary,
    ScoreRecord,
    read_fit,
    read_scores,
    summary_of,
)
from orchestrator.search.records.ledger import Ledger, folders
from orchestrator.search.records.partial_score import PartialScore, SeenFolds, seen_folds_of
from orchestrator.search.records.status import Status, read_status
from orchestrator.search.records.trial_records import of_status
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.space.space import Configuration, SearchSpace
from orchestrator.search.store.derived import DerivedFiles
from orchestrator.search.store.derived_scores import derived_interval, derived_score
from orchestrator.search.store.optuna_journal import Journal, read_journal
from orchestrator.search.store.reading import read_database, read_space, read_split
from orchestrator.search.store.study_record import StudyRecord
from orchestrator.search.store.trials import (
    Champion,
    StudyTrial,
    broken,
    fit_of_median_dice,
    outside_cases,
    ranked,
    read_trial,
)

if TYPE_CHECKING:
    from orchestrator.search.store.study_store import StudyStore

Standing = list[tuple[StudyTrial, TrialScore]]  # trials with all their folds, best first


@dataclass(frozen=True)
class StudySnapshot:
    """A study on disk at one moment: its specification, split, trials, scores and champion."""

    store: StudyStore
    derived: DerivedFiles = field(init=False, repr=False, compare=False)
    _fits: dict[str, FitRecord | str | None] = field(default_factory=dict, repr=False, compare=False)
    _outside: dict[Path, ScoreRecord | str] = field(default_factory=dict, repr=False, compare=False)
    _scores: dict[tuple[Any, ...], TrialScore] = field(default_factory=dict, repr=False, compare=False)
    _ranked: dict[str, Standing] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "derived", DerivedFiles(self.store.home / "derived" / self.store.name))

    @property
    def name(self) -> str:
        return self.store.name

    @property
    def folder(self) -> Path:
        return self.store.folder

    @property
    def ledger(self) -> Ledger:
        """The ledger of fits and scores; `find` and `find_scores` read each of its records once."""
        return self.store.ledger

    @cached_property
    def record(self) -> StudyRecord:
        """Content of `study.json`: inputs of the study, options of its last run. Raises `BadStudy`."""
        return self.store.record()

    @property
    def study_id(self) -> str:
        """Identifier that distinguishes this study from an earlier one of the same name."""
        return self.record.made_of.id

    @cached_property
    def space(self) -> SearchSpace:
        """The search space. Raises `BadSpace` if its file is not the one that the study was made of."""
        return read_space(self.store.space_file, self.record.made_of)

    @cached_property
    def _datasets(self) -> tuple[tuple[Dataset, ...], tuple[Dataset, ...]]:
        trained, unseen = list(self.record.made_of.datasets), list(self.record.made_of.unseen)
        found = {
            one.name: one for one in load_datasets(self.store.home, list(dict.fromkeys(trained + unseen)))
        }
        return tuple(found[name] for name in trained), tuple(found[name] for name in unseen)

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """Datasets that the study trains on."""
        return self._datasets[0]

    @property
    def unseen(self) -> tuple[Dataset, ...]:
        """Datasets that the study only tests on."""
        return self._datasets[1]

    @cached_property
    def plan(self) -> SplitPlan:
        """The split. Raises `BadSplit` where the file was damaged, or the datasets are others by now."""
        return read_split(self.store.splits_file, self.datasets, self.unseen)

    @cached_property
    def group_of_case(self) -> dict[str, str]:
        """Case id -> group, near-duplicates merged, of all datasets: an interval resamples whole groups."""
        return group_of_case((*self.datasets, *self.unseen), self.plan.near_duplicates)

    def groups_of(self, case_ids: Iterable[str]) -> list[str]:
        """The group of each case."""
        return [self.group_of_case[case_id] for case_id in case_ids]

    @cached_property
    def objective(self) -> Objective:
        """The objective that the search maximises."""
        return objective_over(self.record.spec.objective, self.datasets)

    @cached_property
    def network_sizes(self) -> NetworkSizes:
        """Number of parameters and operations of the networks that were counted."""
        return self.store.network_sizes

    @cached_property
    def secondary(self) -> SecondaryGoals:
        """The objectives after the first one, and the constraints."""
        spec = self.record.spec
        return secondary_goals(spec.objectives[1:], self.datasets, spec.constraints, self.network_sizes)

    @cached_property
    def champion(self) -> Champion | None:
        """The champion whose network was scored on cases outside the search, if there is one yet."""
        if not self.store.champion_file.exists():
            return None
        remedy = "the same `orchestrator search` names the champion again"
        result: Champion | None = read_json(self.store.champion_file, Champion, remedy)
        return result

    @cached_property
    def _verdicts(self) -> tuple[list[str], list[str]]:
        return split_verdicts(self.store.race_file)

    @property
    def num_bad_verdicts(self) -> int:
        """Lines of the race that do not read, and are left out."""
        return len(self._verdicts[1])

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """Every verdict of the race, oldest first."""
        return parse_verdicts(self._verdicts[0])

    @cached_property
    def last_verdicts(self) -> dict[int, dict[str, Any]]:
        """The last verdict of the race on each trial."""
        return {line["trial"]: line for line in self.verdicts}

    @cached_property
    def cut_fits(self) -> dict[int, list[CutFit]]:
        """Fits that were cut and never finished, the last word on each, by trial."""
        file = self.ledger.cut_fits
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
        last = {(cut.trial, cut.fit_id): cut for cut in parse_cut_fits(lines)}
        return by_trial(cut for cut in last.values() if not self.has(cut.fit_id))

    @cached_property
    def last_status(self) -> Status | None:
        """The last status that was written."""
        return read_status(self.store.status_file)

    @cached_property
    def _journal(self) -> Journal:
        on_record = self.ledger.trials.read()  # before the journal, which is written first
        return read_journal(self.store.journal_file, self.name, on_record, self.ledger.num_fits)

    @property
    def journal_damage(self) -> str | None:
        """Why the journal is not what was written; None where it is, or where a database keeps the trials."""
        return self._journal.damage if self.record.spec.storage is None else None

    @cached_property
    def stored_trials(self) -> list[FrozenTrial]:
        """Every trial that the Optuna study has, or had before its journal was damaged. Raises `BadStudy`."""
        if (url := self.record.spec.storage) is not None:
            return read_database(url, self.store.name_in_database(self.study_id))
        return self._journal.trials if self._journal.damage is None else self.trials_on_record()

    def trials_on_record(self) -> list[FrozenTrial]:
        """Every trial as the ledger has it, or, of studies of earlier versions, the last status. Raises `BadStudy`."""
        views = self.last_status.trials if self.last_status is not None else ()
        trials = self.ledger.trials.read() or of_status(views, self.space, len(self.secondary.directions))
        if not trials:
            remedy = (
                "restore it from a copy; otherwise the same `orchestrator search` samples again, and trains nothing "
                "twice"
            )
            raise BadStudy(str(self.store.journal_file), f"{self.journal_damage}; {remedy}")
        return trials

    @cached_property
    def trials(self) -> list[StudyTrial]:
        """Every trial so far that has its parameters, by number."""
        return self.read_trials(self.trial_numbers)

    @property
    def trial_numbers(self) -> tuple[int, ...]:
        """Numbers of `trials`, in order, of which no record of a fit is read."""
        return tuple(self._drawn)

    def read_trials(self, numbers: Iterable[int]) -> list[StudyTrial]:
        """Those of `trials` with these numbers, all of `trial_numbers`; no other trial's fits are read."""
        found = [
            read_trial(self._drawn[number], self.space, self.plan, self, self._looks.get(number))
            for number in numbers
        ]
        self.derived.save()
        return found

    @cached_property
    def _drawn(self) -> dict[int, FrozenTrial]:
        return {
            trial.number: trial
            for trial in self.stored_trials
            if trial.state != TrialState.WAITING and self.space.drawn(trial.params) is not None
        }

    @cached_property
    def _looks(self) -> dict[int, SeenFolds]:
        return seen_folds_of(self.verdicts)

    def find(self, fit_id: str) -> FitRecord | None:
        """The record of a fit; None where there is none, or it does not read."""
        if fit_id not in self._fits:
            self._fits[fit_id] = self._read(fit_id)
        found = self._fits[fit_id]
        return found if isinstance(found, FitRecord) else None

    def _read(self, fit_id: str) -> FitRecord | str | None:
        """A record, or why it does not read; None where there is none."""
        folder = self.ledger.fits / fit_id
        if not folder.is_dir():
            return None
        is_verified = self.derived.is_sound(folder)
        try:
            found = read_fit(folder, is_verified=is_verified)
        except Unreadable as error:
            return str(error)
        if not is_verified:
            self.derived.note_sound(folder)
        return found

    def stored(self) -> Iterator[FitRecord]:
        """Every finished fit whose record reads, refits and those of a re-evaluation included, by name."""
        for folder in folders(self.ledger.fits):
            if (found := self.find(folder.name)) is not None:
                yield found

    def summaries(self) -> Iterator[FitSummary]:
        """Summaries of `stored`."""
        return map(summary_of, self.stored())

    def has(self, fit_id: str) -> bool:
        """Whether a fit is on record, and its record reads."""
        return self.find(fit_id) is not None

    def read(self, fit_id: str) -> FitRecord:
        """The record of a fit that is there. Raises `BadStudy` where it does not read."""
        found = self.find(fit_id)
        return found if found is not None else self.ledger.read(fit_id)

    def find_scores(self, fit_id: str, case_ids: Sequence[str]) -> ScoreRecord | None:
        """The scores of a network on cases outside the search; None where there are none, or they do not read."""
        folder = self.ledger.score_folder(fit_id, case_ids)
        found = self._read_scores(folder) if folder.is_dir() else None
        return found if isinstance(found, ScoreRecord) else None

    def scores(self, fit_id: str, case_ids: Sequence[str]) -> ScoreRecord:
        """The scores of `find_scores`, which must be there. Raises `BadStudy`."""
        found = self.find_scores(fit_id, case_ids)
        return found if found is not None else self.ledger.read_scores(fit_id, case_ids)

    def _read_scores(self, folder: Path) -> ScoreRecord | str:
        if folder not in self._outside:
            try:
                self._outside[folder] = read_scores(folder)
                self.derived.note_sound(folder)
            except Unreadable as error:
                self._outside[folder] = str(error)
        return self._outside[folder]

    @cached_property
    def damaged_records(self) -> dict[Path, str]:
        """Records that do not read, with the reason. One that was read before as it is now is not read again."""
        found: dict[Path, str] = {}
        for folder in folders(self.ledger.fits):
            if not self.derived.is_sound(folder):
                self.find(folder.name)
                if isinstance(why := self._fits[folder.name], str):
                    found[folder] = why
        for folder in folders(self.ledger.scores):
            if not self.derived.is_sound(folder) and isinstance(read := self._read_scores(folder), str):
                found[folder] = read
        self.derived.save()
        return found

    def score(self, trial: StudyTrial, metric: str = "dice") -> TrialScore | None:
        """The score of a trial, its masks the best by `metric`; None while folds are missing."""
        if len(trial.records) < trial.num_folds:
            return None
        return self.score_of(trial.records, trial.configuration, metric)

    def finished_score(self, trial: StudyTrial) -> TrialScore:
        """The score of a trial that must be finished. Raises `BadStudy` if it is not."""
        score = self.score(trial)
        if score is None:
            raise BadStudy(
                f"trial {trial.number}", f"has {len(trial.records)} of {trial.num_folds} folds finished"
            )
        return score

    def champion_fit(self, trial: StudyTrial) -> FitRecord:
        """The fold network that stands for a trial: see `champion_fit` of trials. Raises `BadStudy`."""
        return fit_of_median_dice(trial, self.finished_score(trial))

    def score_of(
        self, records: Sequence[FitRecord], configuration: Configuration, metric: str = "dice"
    ) -> TrialScore:
        """The score of `score_trial` over these records; found on disk where it was derived before."""
        key = tuple(record.fit_id for record in records), configuration.masks, metric
        if key not in self._scores:
            self._scores[key] = derived_score(self.derived, records, configuration, metric)
        return self._scores[key]

    def partial(self, trial: StudyTrial) -> PartialScore | None:
        """Score of a trial over its finished folds; None if all are finished."""
        if len(trial.records) == trial.num_folds:
            return None
        return trial.partial_of(self.score_of(trial.records, trial.configuration) if trial.records else None)

    def interval(self, values: NDArray[np.float64], case_ids: Sequence[str]) -> tuple[float, float]:
        """The `cluster_interval` of values (N,) of these cases; found on disk where it was derived before."""
        return derived_interval(self.derived, values, self.groups_of(case_ids))

    def ranked(self, metric: str = "dice") -> Standing:
        """Finished trials with their scores, best first, by the study's objective."""
        if metric not in self._ranked:
            goals = self.objective, self.secondary
            self._ranked[metric] = ranked(self.trials, metric, *goals, score_of=self.score)
        return self._ranked[metric]

    def feasible(self, metric: str = "dice") -> Standing:
        """The trials of `ranked` that meet all constraints."""
        return [pair for pair in self.ranked(metric) if broken(pair[0], self.secondary) is None]

    def values(self, standing: Iterable[tuple[StudyTrial, TrialScore]]) -> dict[int, tuple[float, ...]]:
        """Number of a finished trial -> its value in every objective."""
        return {
            trial.number: (
                self.objective(score),
                *self.secondary.values(trial.configuration, score, trial.inference_ms),
            )
            for trial, score in standing
        }

    @cached_property
    def front(self) -> tuple[int, ...]:
        """Numbers of the finished trials on the Pareto front; () where there is one objective."""
        if not self.secondary.objectives:
            return ()
        return tuple(sorted(front(self.values(self.feasible()), self.secondary.directions)))

    @cached_property
    def outside_cases(self) -> dict[str, tuple[str, ...]]:
        """The cases that only champions are scored on: "test", the hold-out, and each unseen dataset by name."""
        return outside_cases(self.plan, self.unseen)

    def outside_values(self, fit_id: str, masks: PostProcess) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Scores of one network on every image of `outside_cases`, in their order, where it was scored."""
        found = {name: self.find_scores(fit_id, ids) for name, ids in self.outside_cases.items()}
        return {name: scores_under(one.histograms, masks) for name, one in found.items() if one is not None}

    def outside_scores(self, fit_id: str, masks: PostProcess) -> dict[str, dict[str, float]]:
        """Means of `outside_values`."""
        return {
            name: {metric: float(values.mean()) for metric, values in scores.items()}
            for name, scores in self.outside_values(fit_id, masks).items()
        }
