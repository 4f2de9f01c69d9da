"""Printed output of a running study: a line for each fold and trial, and the status."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from orchestrator.common.display import counted
from orchestrator.data.splits.proportions import listed_reasons, lopsided
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.sinks.measures import own_scores, own_threshold_text, secondary_values
from orchestrator.scoring.formatting import percent
from orchestrator.search.records.status import Status
from orchestrator.search.space.keys import NETWORK
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial
from orchestrator.selection.ranking import select_trial
from orchestrator.selection.reevaluation import read_rescoring, reevaluated_on
from orchestrator.study.sinks import ResultSink

if TYPE_CHECKING:
    from orchestrator.scoring.mask_choice import MaskChoice
    from orchestrator.search.budget.limits import End
    from orchestrator.search.forecast.width import WidthChoice
    from orchestrator.search.race.rules import Verdict
    from orchestrator.search.records.fit_records import FitRecord
    from orchestrator.study.runnable_study import RunnableStudy
    from orchestrator.training.ray.lanes import Shape


class ConsoleSink(ResultSink):
    """Prints one study."""

    def __init__(
        self, store: StudyStore, *, say: Callable[[str], None], show: Callable[[Status], None]
    ) -> None:
        """`say(line)` prints a line; `show(status)` how the study stands, about once a second."""
        self.store, self.say, self.show = store, say, show
        self.folds: tuple[str, ...] = ()  # names
        self.best: tuple[float, int] | None = None  # objective, minus the trial's number

    def __enter__(self) -> Self:
        self.objective, self.secondary = self.store.objective(), self.store.secondary()
        return self

    def started(self, study: RunnableStudy, shape: Shape) -> None:
        self.folds = tuple(fold.name for fold in study.plan.folds)
        before = [trial for trial in self.store.trials() if trial.state != "open"]
        for trial in before:
            self._count(trial)
        width = f" of {shape.workers_per_lane} workers" if shape.workers_per_lane > 1 else ""
        self.say(
            f"study {self.store.name}: until {study.budget}; {counted(len(study.plan.folds), 'fold')}, "
            f"{study.plan.name}, {counted(len(study.plan.test), 'case')} held out, "
            f"{counted(shape.num_lanes, 'lane')}{width} on {shape.device}"
            + (f"; {counted(len(before), 'trial')} finished already" if before else "")
        )
        for line in cautions(study.plan):
            self.say(line)
        baseline = study.space.configuration(study.space.baseline_params())
        if (broken := self.secondary.broken(baseline)) is not None:
            self.say(f"the baseline has {broken}: it is trained for comparison only, and is never champion")
        for params in study.space.baselines[1:]:
            other = study.space.configuration(study.space.drawn(params) or {})
            if (broken := self.secondary.broken(other)) is not None:
                self.say(f"the baseline of {other.network} has {broken}: it is not tried")
        if study.spec.trials is not None and study.spec.trials < len(study.space.baselines):
            never = ", ".join(one[NETWORK] for one in study.space.baselines[study.spec.trials :])
            self.say(f"{study.spec.trials} trials are too few for all networks; not tried: {never}")

    def width_chosen(self, choice: WidthChoice) -> None:
        self.say(choice.why)

    def fold_finished(self, number: int, fold: int, record: FitRecord, masks: MaskChoice) -> None:
        self._fold(number, self.folds[fold], record, masks)

    def fold_reevaluated(self, number: int, record: FitRecord, masks: MaskChoice) -> None:
        self._fold(number, record.spec.fold.replace("again", "re-evaluation fold", 1), record, masks)

    def judged(self, number: int, verdict: Verdict) -> None:
        """Pauses alone are printed: a trial that goes on or is over prints other lines."""
        if verdict.action == "pause":
            self.say(f"trial {number} waits: {verdict.reason}")

    def trial_finished(self, trial: StudyTrial) -> None:
        self._count(trial)
        searched = "  ".join(f"{name} {_short(value)}" for name, value in trial.searched.items())
        self.say(f"trial {trial.number} {self._outcome(trial)}  ({searched})")

    def ends(self, end: End) -> None:
        rest = (
            ""
            if end.is_of_this_run
            else "; those in flight and the best continue, as far as the budget allows"
        )
        self.say(f"no new trial is started: {end.why}{rest}")

    def reevaluation_started(self, trials: Sequence[int], num_fits: int) -> None:
        numbers, where = ", ".join(map(str, trials)), reevaluated_on(self.store.snapshot())
        self.say(
            f"trials {numbers} are not significantly different: they are re-evaluated {where}; "
            f"{counted(num_fits, 'fit')} to go"
        )

    def progress(self, status: Status) -> None:
        self.show(status)

    def finished(self, champion: StudyTrial | None) -> None:
        if champion is None:
            return
        if self.secondary.objectives:
            front = ", ".join(map(str, self.store.front()))
            self.say(f"no trial is better in all objectives than: {front}")
        if (remembered := read_rescoring(self.store)) is not None and len(remembered.finalists) > 1:
            now = self.store.snapshot()
            for line in select_trial(now, now.ranked()).reevaluation_sentences():
                self.say(line)

    def _fold(self, number: int, name: str, record: FitRecord, masks: MaskChoice) -> None:
        scores = own_scores(record, masks)
        dice = f"dice {percent(scores['dice'])}" if "dice" in scores else own_threshold_text(scores)
        self.say(
            f"trial {number} {name}  {dice}  "
            f"best epoch {record.best_epoch + 1}/{len(record.curves)}  {record.seconds:.1f} s"
        )

    def _outcome(self, trial: StudyTrial) -> str:
        if trial.state == "stopped" and trial.partial is not None:
            return f"stopped {trial.partial}: {trial.error}"
        score = trial.score()
        if trial.state == "failed" or score is None:
            return f"failed: {trial.error}"
        value = self.objective(score)
        best = ", best so far" if self.best == (value, -trial.number) else ""
        secondary = secondary_values(trial, score, self.secondary)
        # Lines of folds have the threshold that is best for the fold alone, so that this is not their mean.
        at = " at one threshold for all folds" if trial.configuration.masks.is_open else ""
        return f"done  {self.objective.label()} {percent(value)}{at}{best}" + _listed_values(secondary)

    def _count(self, trial: StudyTrial) -> None:
        score = trial.score() if trial.state != "failed" else None
        if score is not None:
            self.best = max(self.best or (-1.0, 0), (self.objective(score), -trial.number))


def cautions(plan: SplitPlan) -> list[str]:
    """Cautions on the scores of a split, a line each: groups, near-duplicates, single fold, dropped cases."""
    lines = []
    if not plan.groups_known and plan.near_duplicates is None:
        lines.append(
            "groups (videos, patients) are unknown, so images of one may be on both sides of a split"
        )
    elif plan.near_duplicates is None:
        lines.append(
            "near-duplicate images were not looked for, so two groups that show one place may be separated"
        )
    elif not plan.groups_known:
        lines.append(
            f"groups (videos, patients) are unknown; {len(plan.near_duplicates)} pairs of near-duplicate images are "
            "kept together, other images of one patient may be on both sides of a split"
        )
    if warning := lopsided(plan):
        lines.append(warning)
    if len(plan.folds) == 1:
        lines.append("there is one fold, so a swept threshold is chosen on the images it is scored on")
    if plan.num_dropped:
        lines.append(f"images left out of validation and tests: {listed_reasons(plan.num_dropped)}")
    return lines


def _listed_values(values: Mapping[str, float]) -> str:
    return "".join(f"  {name} {value:.4g}" for name, value in values.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
