"""Tune callback that reports the events of a study to its sinks."""

from __future__ import annotations

from typing import Any

from optuna.trial import FrozenTrial
from ray.tune import Callback

from orchestrator.common.interruption import reinstall_handlers
from orchestrator.search.budget.limits import End
from orchestrator.search.engine import Engine
from orchestrator.search.optuna_trials import OptunaTrials
from orchestrator.search.progress.monitor import ProgressMonitor
from orchestrator.search.race.state import RaceState
from orchestrator.search.records.cut_fits import CutFit, append_cut_fit
from orchestrator.search.store.trials import StudyTrial, read_trial
from orchestrator.study.cleanup import WeightCleanup
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.study.sinks import ResultSink


class ReportingCallback(Callback):
    """Reports every fold and trial that is finished in this run once; cleans up after ended trials."""

    def __init__(
        self,
        study: RunnableStudy,
        engine: Engine[RaceState, OptunaTrials],
        report: ResultSink,
        monitor: ProgressMonitor,
    ) -> None:
        self.study, self.report, self.monitor, self.ledger = study, report, monitor, study.store.ledger
        self.trials, self.state, self.gate = engine.trials, engine.state, engine.gate
        self.end: End | None = None  # as it was reported
        self.num_reported = 0  # folds and trials
        self.rows: dict[int, dict[int, dict[int, dict[str, float]]]] = {}  # in flight: trial, fold, epoch
        self.tidy = WeightCleanup(study, engine.state)
        self.is_tidy = False
        # What earlier runs had on record is reported as a number; see `ResultSink`.
        self.on_record = {
            (number, fold) for number in self.state.configurations for fold in self.state.finished(number)
        }

    def __getstate__(self) -> dict[str, Any]:
        """Empty state: Tune pickles its callbacks for `Tuner.restore`, which is never used here."""
        return {}

    def setup(self, *_: Any, **info: Any) -> None:
        """Reinstall our handlers: Tune has just taken SIGUSR1, to end as if it were done."""
        reinstall_handlers()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        config = trial.config
        self.monitor.visit(config["number"], config["params"], config["folds"])
        self.report.trial_started(config["number"], config["params"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = result["number"]
        for part in result["updates"]:
            fold, fit_id, rows = part["fold"], part["fit_id"], part["rows"]
            self.gate.usage.add_epochs(fit_id, rows)
            self.monitor.epochs_reported(number, fold, rows, self._epochs(number), part["done"])
            if rows:
                in_flight = self.rows.setdefault(number, {}).setdefault(fold, {})
                in_flight |= {int(row["epoch"]): row for row in rows}
                self.report.epochs(number, fold, fit_id, rows)
            if part["done"]:
                self._fold_finished(number, fold, fit_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.monitor.leave(trial.config["number"])
        self.report_finished()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.monitor.leave(trial.config["number"])
        self.report_finished()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        end = self.gate.end
        if end is not None and end != self.end:
            self.end = end
            self.report.ends(end)
        self.monitor.step()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.report_finished()

    def report_finished(self) -> None:
        """Report every trial that ended since the last call; keep the epochs of its unfinished fits."""
        numbers = list(dict.fromkeys(self.trials.closed))
        self.trials.closed.clear()
        new = [self.trials.stored(number) for number in numbers]
        for trial in new:
            found = self._read(trial)
            for fold in self.state.finished(trial.number) if trial.number in self.state.fit_ids else ():
                self._report_fold(trial.number, fold)
            self._keep_cut_fits(trial.number)
            self.monitor.trial_ended(found)
            self.report.trial_finished(found)
            self.num_reported += 1
        if not self.is_tidy:
            self.is_tidy, new = True, self.over()  # those of earlier runs as well
        if new:
            self.tidy(new)

    def over(self) -> list[FrozenTrial]:
        """All trials that are over, as Optuna has them."""
        return [trial for trial in self.trials.study.get_trials(deepcopy=False) if trial.state.is_finished()]

    def _fold_finished(self, number: int, fold: int, fit_id: str) -> None:
        self.rows.get(number, {}).pop(fold, None)
        self.gate.usage.finish(self.ledger.read(fit_id))
        self._report_fold(number, fold)
        self.report.judged(number, self.state.verdicts[number])

    def _report_fold(self, number: int, fold: int) -> None:
        """Report a fold that is on record, unless it was reported, or recorded in an earlier run."""
        if (number, fold) in self.on_record:
            return
        self.on_record.add((number, fold))
        record = self.ledger.read(self.state.fit_ids[number][fold])
        self.report.fold_finished(number, fold, record, self.state.configurations[number].masks)
        self.num_reported += 1

    def _read(self, trial: FrozenTrial) -> StudyTrial:
        look = self.state.looks.get(trial.number)
        return read_trial(trial, self.study.space, self.study.plan, self.ledger, look)

    def _keep_cut_fits(self, number: int) -> None:
        for fold, by_epoch in self.rows.pop(number, {}).items():
            fit_id = self.state.fit_ids[number][fold]
            if not self.ledger.has(fit_id):
                rows = [by_epoch[epoch] for epoch in sorted(by_epoch)]
                append_cut_fit(self.ledger.cut_fits, CutFit(number, fold, fit_id, rows))

    def _epochs(self, number: int) -> int:
        return self.state.configurations[number].recipe.epochs
