"""Partial scores of trials without all their folds, under names of their own: they are not the trial's score.

Values that the race or Optuna use for such a trial are imputed, and never shown as Dice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.scoring.formatting import percent, points


@dataclass(frozen=True)
class SeenFolds:
    """Folds of a trial that the race last judged, and the comparison on them."""

    folds: tuple[int, ...]
    compared_with: int | None = None  # number of the incumbent at that time
    # Dice minus that of `compared_with` on the same images, at thresholds chosen on these folds.
    paired_difference: float | None = None

    def then(self, line: Mapping[str, Any]) -> SeenFolds:
        """Folds and comparison after one more line of `race.jsonl`; a verdict on a cut fit leaves them."""
        folds, numbers = tuple(line["folds"]), line["numbers"]
        difference = numbers.get("paired_difference", numbers.get("difference"))
        if difference is None:
            return self if folds == self.folds else SeenFolds(folds)
        against = numbers.get("compared_with", line["against"])
        return SeenFolds(folds, None if against is None else int(against), difference)


NOTHING_SEEN = SeenFolds(())


def seen_folds_of(lines: Iterable[Mapping[str, Any]]) -> dict[int, SeenFolds]:
    """Trial number -> folds that the race last judged."""
    looks: dict[int, SeenFolds] = {}
    for line in lines:
        looks[line["trial"]] = looks.get(line["trial"], NOTHING_SEEN).then(line)
    return looks


@dataclass(frozen=True)
class PartialScore:
    """Score of a trial over its finished folds."""

    folds_seen: int
    num_folds: int
    # Mean over their images, at the threshold that is best for these folds; None without a fold.
    dice_on_seen_folds: float | None = None
    paired_difference: float | None = None  # minus the Dice of `compared_with` on the same images
    compared_with: int | None = None  # trial

    @property
    def of_folds(self) -> str:
        """Text such as "1 of 5 folds"."""
        return f"{self.folds_seen} of {self.num_folds} folds"

    def __str__(self) -> str:
        """Text such as "after 1 of 5 folds (dice 28.22 there)": the reason of the race has the difference."""
        return self._text("")

    def with_difference(self) -> str:
        """Text such as "after 1 of 5 folds (dice 28.22 there, -4.10 against trial 0)"."""
        if self.paired_difference is None:
            return self._text("")
        return self._text(f", {points(self.paired_difference)} against trial {self.compared_with}")

    def _text(self, pair: str) -> str:
        if self.dice_on_seen_folds is None:
            return f"before any of {self.num_folds} folds was finished"
        return f"after {self.of_folds} (dice {percent(self.dice_on_seen_folds)} there{pair})"

    def short(self) -> str:
        """Text such as "28.22 on 1/5"."""
        return f"{percent(self.dice_on_seen_folds)} on {self.folds_seen}/{self.num_folds}"

    def metrics(self) -> dict[str, float]:
        """Metrics for MLflow, without those that are unknown."""
        found = {
            "folds_seen": float(self.folds_seen),
            "dice_on_seen_folds": self.dice_on_seen_folds,
            "paired_difference": self.paired_difference,
        }
        return {name: value for name, value in found.items() if value is not None}


def partial(dice: float | None, num_folds: int, look: SeenFolds) -> PartialScore:
    """Partial score from the mean Dice over the images of the judged folds."""
    return PartialScore(len(look.folds), num_folds, dice, look.paired_difference, look.compared_with)
