"""The trials of a study in Optuna: asked for once, closed once, resumed after a crash.

The sampler never reads that study. It reads a temporary one, in which every trial with any score has an
honest value, so that a value can change as more folds are finished. It is seeded by (study seed, trial
number), so an interrupted study asks for the same configurations as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState, create_trial

from orchestrator.common.private_api import member
from orchestrator.search.choices import SamplerName
from orchestrator.search.race.state import RaceState
from orchestrator.search.samplers.draw import Proposal, TriedConfigurations, draw, is_allowed
from orchestrator.search.samplers.registry import sampler_kind
from orchestrator.search.samplers.stopping_rule import ShownTrial
from orchestrator.search.space.space import SearchSpace
from orchestrator.training.recipe import FitSpec

# What Optuna shows of a stopped trial besides the number that a sampler gets.
IMPUTED = "what the race makes of a trial without all its folds; it is no score"


class OptunaTrials:
    """Trials in an Optuna study, each on record in the ledger as well."""

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        state: RaceState,
        *,
        seed: int,
        sampler: SamplerName = "surrogate",
        warm_start_configurations: Sequence[dict[str, Any]] = (),
    ) -> None:
        """warm_start_configurations: searched parameters of the trials after the baselines, for which no sampler is
        asked.

        Trials of earlier runs that are over enter `state` at once; those that are open do with `reopen`.
        """
        self.study, self.space, self.state = study, space, state
        self.seed, self.sampler = seed, sampler
        first, *others = space.baselines
        self.given = [
            *(one for one in others if is_allowed(space, one, state.secondary)),
            *warm_start_configurations,
        ]
        self.time_left: Callable[[], float | None] = lambda: (
            None
        )  # share of the study's hours, where hours limit it
        self.closed: list[int] = []  # trials closed since this list was last emptied, for reports
        trials = study.get_trials(deepcopy=False)
        self.num_begun = sum(trial.state != TrialState.WAITING for trial in trials)
        self.tried = TriedConfigurations(space, (trial.params for trial in trials))
        self._num_waiting = len(trials) - self.num_begun
        if not trials:
            study.enqueue_trial(first)
            self._num_waiting = 1
        for trial in trials:
            state.ledger.trials.write(trial)
            if trial.state.is_finished() and state.fits(trial):
                state.enter(trial)
            if trial.state == TrialState.FAIL:
                state.leave(trial.number)

    def open(self) -> list[int]:
        """Numbers of the trials that are begun and not closed."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial.number for trial in trials if trial.state == TrialState.RUNNING]

    def reopen(self, number: int) -> None:
        """Prepare a trial that an earlier run left open, perhaps before it had all its parameters."""
        self.space.sample(self._open_trial(number))
        self.state.enter(self.stored(number))
        self.state.ledger.forget_failure(number)  # it was not closed as failed: it is tried again

    def begin(self) -> int | None:
        """Begin a trial, in the journal before training, and return its number; None if all were tried."""
        if self._num_waiting:
            trial = self.study.ask()
            self.space.sample(trial)
            number = trial.number
            self._num_waiting -= 1
        elif (drawn := self._draw()) is None:
            return None
        else:
            number = self._add(drawn)
        self.num_begun += 1
        stored = self.stored(number)
        self.tried.add(stored.params)
        self.state.ledger.trials.write(stored)
        self.state.enter(stored)
        return number

    def params(self, number: int) -> dict[str, Any]:
        """Searched and fixed parameters of an open trial."""
        return self.space.sample(self._open_trial(number))

    def complete(self, number: int) -> None:
        """Close a trial with the values of all objectives."""
        self._keep_excess(number)
        self._keep_folds(number)
        self._close(number, values=self.state.values(number))

    def stop(self, number: int, reason: str) -> None:
        """Close a trial as pruned, with the score on its folds; the score that the race assumes is named imputed."""
        trial = self._open_trial(number)
        trial.set_user_attr("stopped", reason)
        self._keep_excess(number)
        value = self.state.value(number)
        if (shown := self.state.partial(number)) is not None:
            trial.set_user_attr("shown", str(shown))
            for name, known in shown.metrics().items():
                trial.set_user_attr(name, known)
        if value is not None:
            trial.set_user_attr("imputed", f"{value:.4f}, {IMPUTED}")
        self._keep_folds(number)
        self._close(number, state=TrialState.PRUNED)

    def fail(self, number: int) -> str | None:
        """Close a trial as failed; returns the recorded reason, or None without one: it is still open."""
        reason = self.state.ledger.failure(number)
        if reason is not None:
            self._open_trial(number).set_user_attr("error", reason)
            self._close(number, state=TrialState.FAIL)
        return reason

    def shown(self) -> list[ShownTrial]:
        """Configurations with values, by trial number; failed and ineligible ones have None as value."""
        shown = []
        for trial in self.study.get_trials(deepcopy=False):
            failed = trial.state == TrialState.FAIL or self.state.is_ineligible(trial.number)
            value = None if failed or not trial.params else self.state.known(trial.number)
            if value is not None or failed:
                folds = len(self.state.seen.get(trial.number, ()))
                shown.append(ShownTrial(trial.params, trial.distributions, value, folds))
        return shown

    def lost(self) -> dict[str, FitSpec]:
        """Id -> specification of fits that were finished and judged, and whose records are gone."""
        return self.state.lost(self.study.get_trials(deepcopy=False))

    def recorded_end(self) -> Mapping[str, Any] | None:
        """Reason for the end of the study in an earlier run, from `BudgetGate.remember`; None without one."""
        return self.study.user_attrs.get("end")

    def record_end(self, end: Mapping[str, Any]) -> None:
        """Store the reason for the end of the study, for later runs."""
        self.study.set_user_attr("end", dict(end))
        self.state.ledger.trials.write_end(dict(end))

    def stored(self, number: int) -> FrozenTrial:
        """The trial with this number as Optuna stores it."""
        storage, study_id = self._place()
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(study_id, number))

    def _place(self) -> tuple[BaseStorage, int]:
        """The storage of the study, and the study's number there."""
        return member(self.study, "_storage"), member(self.study, "_study_id")

    def _open_trial(self, number: int) -> Trial:
        """Open trial to suggest parameters with; those suggested before keep their values."""
        return Trial(self.study, member(self.stored(number), "_trial_id"))

    def _add(self, drawn: Proposal) -> int:
        """Add an open trial; returns its number. To enqueue and ask for it would read every trial twice."""
        fixed = FixedTrial(drawn.params)
        self.space.sample(fixed)
        begun = create_trial(
            state=TrialState.RUNNING,
            params=fixed.params,
            distributions=fixed.distributions,
            user_attrs=drawn.marks,
        )
        storage, study_id = self._place()
        return storage.get_trial_number_from_id(storage.create_new_trial(study_id, begun))

    def _close(self, number: int, **result: Any) -> None:
        """Close a trial in Optuna, then in the ledger."""
        self.study.tell(number, **result)
        self.closed.append(number)
        self.state.ledger.trials.write(self.stored(number))

    def _keep_excess(self, number: int) -> None:
        """Store the excess of a trial over each constraint; values that an earlier run stored stay."""
        trial = self._open_trial(number)
        for limit, excess in self.state.excess(number).items():
            if limit not in trial.constraints:
                trial.set_constraint(limit, excess)

    def _keep_folds(self, number: int) -> None:
        """Store values of a trial for Optuna's dashboard: Dice of each fold by the masks of the trial, and as
        intermediate values the mean over the images of the first folds, of one more at each step; the last
        one of a stopped trial is its value.
        """
        if (shown := self.state.shown(number)) is None:
            return
        trial, (folds, score) = self._open_trial(number), shown
        dice = dict(zip(folds, score.fold_dice, strict=True))
        trial.set_user_attr("fold_dice", {self.state.plan.folds[fold].name: dice[fold] for fold in folds})
        trial.set_user_attr("mlflow_run", f"trial-{number:03d}")
        if len(self.study.directions) > 1 or not self.state.objective.is_mean:
            return  # Optuna takes intermediate values of one objective alone
        known = self.stored(number).intermediate_values
        for step, mean in enumerate(self._means(dice), start=1):
            if step not in known:
                trial.report(mean, step)

    def _means(self, dice: Mapping[int, float]) -> Iterator[float]:
        """The mean Dice over the images of the first fold, of the first two, and so on."""
        total = images = 0.0
        for fold, value in dice.items():
            num_images = len(self.state.plan.folds[fold].val)
            total, images = total + num_images * value, images + num_images
            yield total / images

    def _draw(self) -> Proposal | None:
        if given := [one for one in self.given[self.num_begun - 1 :] if one not in self.tried]:
            return Proposal(given[0], {})
        directions = self.study.directions
        reads_trials = sampler_kind(self.sampler, len(directions)).reads_trials
        trials = self.study.get_trials(deepcopy=False) if reads_trials else []
        past = [self.state.past(trial) for trial in trials]
        seed = (self.seed * 1_000_003 + self.num_begun) % 2**32
        return draw(
            self.space,
            past,
            self.sampler,
            seed,
            directions,
            self.state.secondary,
            self.tried,
            self.time_left(),
        )
