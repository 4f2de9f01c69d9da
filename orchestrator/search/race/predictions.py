"""Ranks of trials by the predictions of a model: with few folds, similar trials say more than its own score."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.common.cpus import one_thread
from orchestrator.search.race.paired_scores import MORE
from orchestrator.search.race.rules import Race
from orchestrator.search.samplers.past_trials import PastTrial

if TYPE_CHECKING:
    from orchestrator.search.samplers.fold_aware_sampler import PosteriorMeans


class Predictions:
    """Posterior means of a Gaussian process over all trials with scores, handed to the race as ranks.

    With more than `EXACT` trials the model is fitted again only when there are 1 % more scores, or another incumbent,
    against which all trials are valued; in between, only trials with new scores are predicted again.
    """

    def __init__(self, race: Race) -> None:
        self.race = race
        self.model: PosteriorMeans | None = None
        self.place_of: dict[int, int] = {}  # trial -> its place in the model
        self.num_scores = 0  # of folds, that the model is fitted to
        self.incumbent: int | None = None  # when the model was fitted
        self.scored: set[int] = set()  # trials with a value, without failed ones
        self.changed: set[int] = set()  # trials with new scores since the last update

    def mark(self, number: int) -> None:
        """Note that a trial has new scores."""
        self.scored.add(number)
        self.changed.add(number)

    def leave(self, number: int) -> None:
        """Forget a trial; the model is fitted again."""
        self.scored.discard(number)
        self.changed.discard(number)
        self.model = None

    def update(self, past_of: Callable[[int], PastTrial]) -> None:
        """Rank trials by their current scores; nothing happens where no score has changed."""
        model = self.model
        if model is not None and not self.changed:
            return
        if model is not None and self._is_recent(model):
            self._predict_changed(model, past_of)
        else:
            self._fit(past_of)
        self.changed.clear()

    def renew(self, past_of: Callable[[int], PastTrial]) -> None:
        """Fit the model to the current scores of all trials, and rank by it."""
        self._fit(past_of)
        self.changed.clear()

    def _is_recent(self, model: PosteriorMeans) -> bool:
        from orchestrator.search.samplers.inducing_points import EXACT

        board = self.race.board
        return (
            model.model is not None
            and len(self.scored) > EXACT
            and board.num_scores <= MORE * self.num_scores
            and board.incumbent == self.incumbent
        )

    @one_thread()
    def _predict_changed(self, model: PosteriorMeans, past_of: Callable[[int], PastTrial]) -> None:
        """Predict trials with new scores again, without fitting the model again."""
        past = {number: past_of(number) for number in self.changed}
        known = {number: one.shown for number, one in past.items() if one.value is not None}
        some = {number: model.of(one, self.place_of.get(number)) for number, one in known.items()}
        self.race.predict(some, replace_all=False)

    @one_thread()
    def _fit(self, past_of: Callable[[int], PastTrial]) -> None:
        """Fit the model to scores alone, whatever was predicted before.

        Estimates of incomplete trials depend on the incumbent; so an interrupted study has the predictions of one that
        was not.
        """
        from orchestrator.search.samplers.fold_aware_sampler import (
            PosteriorMeans,  # SciPy's optimizers: a third of `status`
        )

        self.race.predict({})
        past = {number: past_of(number) for number in sorted(self.scored)}
        numbers = [number for number, one in past.items() if one.value is not None]
        model = PosteriorMeans([past[number].shown for number in numbers])
        self.model, self.place_of = model, {number: place for place, number in enumerate(numbers)}
        self.race.predict(dict(zip(numbers, model.all(), strict=False)))
        self.num_scores, self.incumbent = self.race.board.num_scores, self.race.incumbent
