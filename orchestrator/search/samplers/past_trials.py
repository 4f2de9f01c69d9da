"""Trials of a study as samplers see them. No model is imported, for `status` needs none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

FOLDS, BY_FOLD, FOLD_WEIGHTS, SECONDS = (
    "folds",
    "by_fold",
    "fold_weights",
    "seconds",
)  # user attributes of a trial
NOTE = "sampler:"  # prefix of the user attributes that keep what a sampler wrote on its trial
_KNOWN: dict[
    str, dict[str, BaseDistribution]
] = {}  # distributions by their text: as many as a space has cases


@dataclass(frozen=True)
class PastTrial:
    """A trial of the study, with its present score."""

    trial: FrozenTrial
    value: float | None  # estimate of the objective from all finished folds; None: no fold is finished
    num_folds: int  # that the value rests on
    secondary: tuple[float, ...] = ()  # values of the secondary objectives
    excess: Mapping[str, float] = field(
        default_factory=dict
    )  # limit -> by what share it is exceeded, if above 0
    seconds: float | None = None  # that a fit of it takes; None: no fit is finished
    by_fold: Mapping[int, float] = field(
        default_factory=dict
    )  # fold -> objective, of finished ones; {} where it is none of single folds
    fold_weights: tuple[
        float, ...
    ] = ()  # images of each fold over those of folds in the mean; () where all are 1
    is_failed: bool = False  # shown as failed, with no value

    @property
    def is_ineligible(self) -> bool:
        return any(value > 0 for value in self.excess.values())

    @cached_property
    def shown(self) -> FrozenTrial:
        """The trial as samplers see it, made once."""
        return shown(self)


def shown(past: PastTrial) -> FrozenTrial:
    """A trial as samplers see it: failed, or complete with its present value, or running where it has none."""
    trial = past.trial
    notes = {name.removeprefix(NOTE): v for name, v in trial.user_attrs.items() if name.startswith(NOTE)}
    known = TrialState.RUNNING if past.value is None else TrialState.COMPLETE
    made = create_trial(
        state=TrialState.FAIL if past.is_failed else known,
        values=None if past.value is None else (past.value, *past.secondary),
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={FOLDS: past.num_folds}
        | ({SECONDS: past.seconds} if past.seconds else {})
        | ({BY_FOLD: dict(past.by_fold)} if past.by_fold else {})
        | ({FOLD_WEIGHTS: past.fold_weights} if past.by_fold and past.fold_weights else {}),
        constraints=dict(past.excess) or None,
        system_attrs=notes,
    )
    made.distributions = _shared(made.distributions)
    return made


def _shared(distributions: dict[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """One dict for all equal distributions; comparing dicts would take most of the time of a draw."""
    return _KNOWN.setdefault(repr(sorted(distributions.items())), distributions)
