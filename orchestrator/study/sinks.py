"""Receivers of the results of a running study: console, MLflow, files; one class each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from orchestrator.scoring.mask_choice import MaskChoice
    from orchestrator.search.budget.limits import End
    from orchestrator.search.forecast.width import WidthChoice
    from orchestrator.search.race.rules import Verdict
    from orchestrator.search.records.fit_records import FitRecord
    from orchestrator.search.records.status import Status
    from orchestrator.search.store.trials import StudyTrial
    from orchestrator.study.runnable_study import RunnableStudy
    from orchestrator.training.ray.lanes import Shape


class ResultSink:
    """Receives events of a study; a context for as long as the study runs. A subclass overrides what it needs.

    The search waits for every method, so a sink that needs long, as a server does, has a thread of its own. Events are
    of this run alone: what an earlier run, or one that was killed, has finished is in the records of the study
    (`results/sinks/records.py`), which a sink of everything reads.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def started(self, study: RunnableStudy, shape: Shape) -> None:
        """Lanes of this shape are starting."""

    def width_chosen(self, choice: WidthChoice) -> None:
        """The number of workers per fit was chosen by forecast."""

    def trial_started(self, number: int, params: dict[str, Any]) -> None:
        """Some folds of a trial are about to be trained; `params` are searched and fixed ones."""

    def epochs(self, number: int, fold: int, fit_id: str, rows: list[dict[str, float]]) -> None:
        """Epochs of a fit in flight are finished, a row each."""

    def fold_finished(self, number: int, fold: int, record: FitRecord, masks: MaskChoice) -> None:
        """A fold of a trial is on record."""

    def judged(self, number: int, verdict: Verdict) -> None:
        """The race has decided whether a trial is given another fold."""

    def trial_finished(self, trial: StudyTrial) -> None:
        """A trial is complete, stopped or failed."""

    def ends(self, end: End) -> None:
        """No new trial is begun any more."""

    def reevaluation_started(self, trials: Sequence[int], num_fits: int) -> None:
        """The finalists are about to be re-evaluated; `num_fits` are not on record yet."""

    def fold_reevaluated(self, number: int, record: FitRecord, masks: MaskChoice) -> None:
        """A fold of the re-evaluation of a finalist is on record."""

    def progress(self, status: Status) -> None:
        """How the study stands: about once a second, from a thread of its own."""

    def finished(self, champion: StudyTrial | None) -> None:
        """The study is over; None: no trial can be champion."""


class AllSinks(ResultSink):
    """Hands every event to each of several sinks, in their order."""

    def __init__(self, sinks: Sequence[ResultSink]) -> None:
        self.sinks = tuple(sinks)
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as entered:
            for sink in self.sinks:
                entered.enter_context(sink)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered.__exit__(*error)

    def started(self, study: RunnableStudy, shape: Shape) -> None:
        for sink in self.sinks:
            sink.started(study, shape)

    def width_chosen(self, choice: WidthChoice) -> None:
        for sink in self.sinks:
            sink.width_chosen(choice)

    def trial_started(self, number: int, params: dict[str, Any]) -> None:
        for sink in self.sinks:
            sink.trial_started(number, params)

    def epochs(self, number: int, fold: int, fit_id: str, rows: list[dict[str, float]]) -> None:
        for sink in self.sinks:
            sink.epochs(number, fold, fit_id, rows)

    def fold_finished(self, number: int, fold: int, record: FitRecord, masks: MaskChoice) -> None:
        for sink in self.sinks:
            sink.fold_finished(number, fold, record, masks)

    def judged(self, number: int, verdict: Verdict) -> None:
        for sink in self.sinks:
            sink.judged(number, verdict)

    def trial_finished(self, trial: StudyTrial) -> None:
        for sink in self.sinks:
            sink.trial_finished(trial)

    def ends(self, end: End) -> None:
        for sink in self.sinks:
            sink.ends(end)

    def reevaluation_started(self, trials: Sequence[int], num_fits: int) -> None:
        for sink in self.sinks:
            sink.reevaluation_started(trials, num_fits)

    def fold_reevaluated(self, number: int, record: FitRecord, masks: MaskChoice) -> None:
        for sink in self.sinks:
            sink.fold_reevaluated(number, record, masks)

    def progress(self, status: Status) -> None:
        for sink in self.sinks:
            sink.progress(status)

    def finished(self, champion: StudyTrial | None) -> None:
        for sink in self.sinks:
            sink.finished(champion)
