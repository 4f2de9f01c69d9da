"""Nested cross-validation: scores of the whole procedure, search and choice, on images it never saw.

For each outer fold a study of its own searches without the fold's cases and names a champion, which is then scored on
them once. Pooled over outer folds, every image counts once, at the mask rule that its study chose; of centers or
datasets, images of a group (near-duplicates included) that is on both sides do not count. Nothing is chosen by this
number, so it is free of the luck that the best of many trials has; it speaks of the procedure, not of one network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.common.files import write_atomically
from orchestrator.common.stored_json import read_json
from orchestrator.scoring.formatting import percent
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.scoring.statistics import cluster_interval
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.study_store import OUTER, StudyStore


@dataclass(frozen=True)
class OuterFold:
    """One outer fold: its study, that study's champion, and the champion's scores on the fold's cases."""

    study: str
    trial: int
    threshold: float
    num_cases: int
    scores: dict[str, float]  # mean over the fold's cases
    validation: float  # mean Dice of the champion over its own validation images, by which it was chosen


@dataclass(frozen=True)
class Nested:
    """Estimate of nested cross-validation, over all outer folds."""

    folds: tuple[OuterFold, ...]
    until: str  # the budget of each study
    scores: dict[str, float]  # mean over all outer cases, each once
    interval: tuple[
        float, float
    ]  # 95 % of the mean Dice, drawing whole groups; infinite where nothing is known

    @property
    def num_cases(self) -> int:
        return sum(fold.num_cases for fold in self.folds)

    @property
    def spread(self) -> float:
        """Standard deviation of Dice over outer folds; no standard error, as folds share training cases."""
        return float(np.std([fold.scores["dice"] for fold in self.folds], ddof=1))

    @property
    def validation(self) -> float:
        """Mean Dice of champions on the images they were chosen by, outer folds weighted as in `scores`."""
        sizes = [fold.num_cases for fold in self.folds]
        return float(np.average([fold.validation for fold in self.folds], weights=sizes))

    @property
    def bias(self) -> float:
        """Mean validation Dice minus mean Dice on the outer folds."""
        return self.validation - self.scores["dice"]

    def sentences(self) -> tuple[str, ...]:
        known = all(np.isfinite(self.interval))
        low_high = f" ({percent(self.interval[0])} to {percent(self.interval[1])})" if known else ""
        configuration = ", ".join(f"trial {fold.trial} of {fold.study}" for fold in self.folds)
        return (
            f"Nested estimate: Dice {percent(self.scores['dice'])}{low_high} over {self.num_cases} images of "
            f"{len(self.folds)} outer folds (standard deviation between folds {100 * self.spread:.2f}): the score to "
            f"expect of this procedure, search ({self.until}) and choice included, on new images of these datasets.",
            f"On images that they were chosen by, the champions of the outer folds scored {percent(self.validation)}: "
            f"{abs(100 * self.bias):.2f} points {'more' if self.bias >= 0 else 'less'}. They were {configuration}.",
        )

    def as_dict(self) -> dict[str, Any]:
        """The estimate as plain values; an infinite interval is None."""
        known = all(np.isfinite(self.interval))
        secondary = {"validation": self.validation, "bias": self.bias, "spread": self.spread}
        return asdict(self) | {"interval": list(self.interval) if known else None, **secondary}

    def metrics(self) -> dict[str, float]:
        """Finite numbers of the estimate as metrics for the run of the study."""
        found = {
            **{f"nested_{name}": value for name, value in self.scores.items()},
            "nested_dice_low": self.interval[0],
            "nested_dice_high": self.interval[1],
            "nested_dice_std": self.spread,
            "nested_validation_dice": self.validation,
            "nested_bias": self.bias,
        }
        return {name: value for name, value in found.items() if np.isfinite(value)}


def inner_store(store: StudyStore, outer: int) -> StudyStore:
    """Store of the study of an outer fold, counted from 1."""
    return StudyStore(store.home, f"{store.name}{OUTER}{outer}")


def inner_stores(store: StudyStore) -> list[StudyStore]:
    """Stores of the studies of all outer folds that were begun, in order."""
    names = [file.parent.name for file in store.folder.parent.glob(f"{store.name}{OUTER}*/study.json")]
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(r".*\.outer-(\d+)", name))]
    return [inner_store(store, number) for number in sorted(numbers)]


def outer_estimate(store: StudyStore, inner: Sequence[StudyStore], until: str) -> Nested:
    """Estimate from the scores of these studies' champions, which all exist, on their outer folds."""
    folds, ids, values = [], list[str](), list[dict[str, np.ndarray]]()
    for one in inner:
        study = one.snapshot()
        fold, scores = _outer_fold(study)
        folds.append(fold)
        ids += study.plan.test
        values.append(scores)
    pooled = {name: np.concatenate([one[name] for one in values]) for name in values[0]}
    return Nested(
        folds=tuple(folds),
        until=until,
        scores={name: float(column.mean()) for name, column in pooled.items()},
        interval=cluster_interval(pooled["dice"], store.snapshot().groups_of(ids)),
    )


def remember_nested(store: StudyStore, nested: Nested) -> None:
    """Store an estimate with the study on all cases, whole or not at all."""
    write_atomically(_file(store), json.dumps(asdict(nested)).encode())


def nested_of(store: StudyStore) -> Nested | None:
    """Outer estimate of a study, None if there is none yet. Raises `BadStudy` where its file is damaged."""
    file = _file(store)
    if not file.exists():
        return None
    result: Nested | None = read_json(
        file, Nested, "the same `orchestrator search --nested` writes it again, and trains nothing for it"
    )
    return result


def _outer_fold(study: StudySnapshot) -> tuple[OuterFold, dict[str, np.ndarray]]:
    champion, test = study.champion, study.plan.test
    assert champion is not None
    trial = next(trial for trial in study.trials if trial.number == champion.trial)
    score = study.finished_score(trial)
    scores = scores_under(study.scores(champion.fit_id, test).histograms, score.masks)
    means = {name: float(values.mean()) for name, values in scores.items()}
    fold = OuterFold(study.name, trial.number, score.threshold, len(test), means, score.metrics["dice"])
    return fold, scores


def _file(store: StudyStore) -> Path:
    return store.folder / "nested.json"
