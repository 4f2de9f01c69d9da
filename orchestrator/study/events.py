"""Tune callback that reports what happens in a study."""

from __future__ import annotations

from typing import Any

from optuna.trial import FrozenTrial
from ray.tune import Callback

from orchestrator.common.interruption import listen_again
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.search.budget.limits import End
from orchestrator.search.progress.monitor import ProgressMonitor
from orchestrator.search.ray_tune.searcher import OptunaSearcher
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.store.report_log import ReportLog
from orchestrator.search.store.study_store import (
    read_trial,
)
from orchestrator.study.cleanup import WeightCleanup
from orchestrator.study.spec import Study, StudyReport


class ReportingCallback(Callback):
    """Carries word from Tune to the report, and tidies up after trials that are over."""

    def __init__(
        self, study: Study, searcher: OptunaSearcher, report: StudyReport, watch: ProgressMonitor
    ) -> None:
        self.study, self.report, self.watch, self.ledger = study, report, watch, study.home.ledger
        self.searcher, self.standings, self.purse = searcher, searcher.standings, searcher.purse
        self.end: End | None = None  # as it was told
        self.told = ReportLog(study.home.told_file)
        self.tidy, self.has_told = WeightCleanup(study, searcher.standings), False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for `Tuner.restore`, which is never used here."""
        return {}

    def setup(self, *_: Any, **info: Any) -> None:
        """Tune has just taken SIGUSR1, to end as if it were done."""
        listen_again()

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        config = trial.config
        self.watch.visit(config["number"], config["params"], config["folds"])
        self.report.trial_started(config["number"], config["params"])

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        number = result["number"]
        for told in result["news"]:
            self.purse.spending.hear(told["fit_id"], told["rows"])
            self.watch.hear(number, told["fold"], told["rows"], self._epochs(number), told["done"])
            self.report.news(number, told["fold"], told["fit_id"], told["rows"])
            if told["done"]:
                record = self.ledger.read(told["fit_id"])
                self.purse.spending.finish(record)
                self._fold(number, told["fold"], record, self.standings.configurations[number].masks)
                self.report.judged(number, self.standings.verdicts[number])

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.watch.leave(trial.config["number"])
        self.tell()

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.watch.leave(trial.config["number"])
        self.tell()

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        end = self.purse.end
        if end is not None and end != self.end:
            self.end = end
            self.report.ends(end)
        self.watch.step()

    def on_experiment_end(self, trials: list, **info: Any) -> None:
        self.tell()

    def catch_up(self) -> None:
        """Report what an earlier run put on record, and was killed before it said so."""
        for number in self.standings.waiting:
            before = len(self.told.names)
            self._folds(number, self.standings.configurations[number].masks)
            if len(self.told.names) > before:
                self.report.judged(number, self.standings.verdicts[number])
        self.tell()

    def tell(self) -> None:
        """Report every trial that Optuna has been told of since the last time."""
        new = self._new()
        for trial in new:
            if f"trial {trial.number}" in self.told:
                continue
            look = self.standings.looks.get(trial.number)
            told = read_trial(trial, self.study.space, self.study.plan, self.ledger, look)
            if trial.number in self.standings.fit_ids:
                self._folds(trial.number, told.configuration.masks)
            self.watch.told(told)
            self.report.trial_finished(told)
            self.told.add(f"trial {trial.number}")
        if new:
            self.tidy(new)

    def over(self) -> list[FrozenTrial]:
        """Every trial that is over."""
        return [trial for trial in self._stored() if trial.state.is_finished()]

    def _new(self) -> list[FrozenTrial]:
        """Trials that are over and were not looked at by `tell`; the first time all of earlier runs."""
        if not self.has_told:
            self.has_told = True
            self.searcher.over.clear()
            return self.over()
        numbers = list(dict.fromkeys(self.searcher.over))
        self.searcher.over.clear()
        return [self.searcher.stored(number) for number in numbers]

    def _folds(self, number: int, masks: MaskChoice) -> None:
        for fold in self.standings.finished(number):
            self._fold(number, fold, self.ledger.read(self.standings.fit_ids[number][fold]), masks)

    def _fold(self, number: int, fold: int, record: FitRecord, masks: MaskChoice) -> None:
        """Report a finished fold, unless that was done."""
        name = f"fold {number} {fold}"
        if name not in self.told:
            self.report.fold_finished(number, fold, record, masks)
            self.told.add(name)

    def _epochs(self, number: int) -> int:
        return self.standings.configurations[number].recipe.epochs

    def _stored(self) -> list[FrozenTrial]:
        return self.searcher.study.get_trials(deepcopy=False)
