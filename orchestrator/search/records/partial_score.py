"""What a trial without all its folds has shown, under names of its own: it is no score of the trial.

What the race makes of such a trial, and what Optuna is told of a stopped one, is imputed; it is never shown as Dice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.scoring.formatting import percent, points


@dataclass(frozen=True)
class SeenFolds:
    """What the race has last looked at of a trial: by these folds it goes on, waits or is stopped."""

    folds: tuple[int, ...]
    compared_with: int | None = None  # the incumbent of then
    paired_difference: float | None = (
        None  # Dice less that one's on the same images, masks of both by these folds
    )

    def then(self, line: Mapping[str, Any]) -> SeenFolds:
        """After one more verdict, a line of `race.jsonl`; one that cuts a fit says nothing new of finished folds."""
        folds, numbers = tuple(line["folds"]), line["numbers"]
        difference = numbers.get("paired_difference", numbers.get("difference"))
        if difference is None:
            return self if folds == self.folds else SeenFolds(folds)
        against = numbers.get("compared_with", line["against"])
        return SeenFolds(folds, None if against is None else int(against), difference)


NOTHING_SEEN = SeenFolds(())


def seen_folds_of(lines: Iterable[Mapping[str, Any]]) -> dict[int, SeenFolds]:
    """The last look at every trial, by number."""
    looks: dict[int, SeenFolds] = {}
    for line in lines:
        looks[line["trial"]] = looks.get(line["trial"], NOTHING_SEEN).then(line)
    return looks


@dataclass(frozen=True)
class PartialScore:
    """The folds that a trial has, and what they show."""

    folds_seen: int
    num_folds: int
    dice_on_seen_folds: float | None = (
        None  # mean over their images, masks as these folds choose; None of no fold
    )
    paired_difference: float | None = None  # that less the Dice of `compared_with` on the same images
    compared_with: int | None = None  # trial

    @property
    def of_folds(self) -> str:
        """1 of 5 folds."""
        return f"{self.folds_seen} of {self.num_folds} folds"

    def __str__(self) -> str:
        """After 1 of 5 folds (dice 28.22 there, -4.10 against trial 0)."""
        if self.dice_on_seen_folds is None:
            return f"before any of {self.num_folds} folds was finished"
        pair = ""
        if self.paired_difference is not None:
            pair = f", {points(self.paired_difference)} against trial {self.compared_with}"
        return f"after {self.of_folds} (dice {percent(self.dice_on_seen_folds)} there{pair})"

    def short(self) -> str:
        """28.22 on 1/5."""
        return f"{percent(self.dice_on_seen_folds)} on {self.folds_seen}/{self.num_folds}"

    def metrics(self) -> dict[str, float]:
        """For MLflow."""
        found = {
            "folds_seen": float(self.folds_seen),
            "dice_on_seen_folds": self.dice_on_seen_folds,
            "paired_difference": self.paired_difference,
        }
        return {name: value for name, value in found.items() if value is not None}


def partial(dice: float | None, num_folds: int, look: SeenFolds) -> PartialScore:
    """Of a trial with that mean Dice over the images of the folds that were looked at."""
    return PartialScore(len(look.folds), num_folds, dice, look.paired_difference, look.compared_with)
