"""Cells of a table: published and measured numbers, with intervals over images and spread over fits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.models import cost
from orchestrator.protocols.fits import RowPlan
from orchestrator.protocols.plan import TablePlan
from orchestrator.protocols.protocol import Column
from orchestrator.protocols.run import RowRun, TableRun
from orchestrator.protocols.set_scores import SetScores
from orchestrator.protocols.tuned import TunedRow
from orchestrator.scoring.papers.registry import PAPER_SCORES

NUM_RESAMPLES = 300
PAPER_SIDE = 256  # pixels, at which operations are counted


@dataclass(frozen=True)
class Cell:
    """One number of a table: as the paper prints it, and as measured here."""

    published: float | None
    measured: float | None
    interval: tuple[float, float] | None = None  # 95 %, from resampling images
    spread: float | None = None  # standard deviation over seeds and folds

    def as_dict(self) -> dict[str, Any]:
        return {
            "published": self.published,
            "measured": self.measured,
            "interval": None if self.interval is None else list(self.interval),
            "spread": self.spread,
        }


@dataclass(frozen=True)
class MeasuredRow:
    """A row of one test set."""

    name: str
    cells: tuple[Cell, ...]  # in the order of the columns
    error: str | None = None
    tuned: tuple[Cell, ...] | None = None
    tuned_params: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class MeasuredSet:
    """A test set of a table."""

    name: str
    shown: str  # what it was measured on
    num_images: int
    rows: tuple[MeasuredRow, ...]


def measure(run: TableRun, tuned: Mapping[str, TunedRow] | None = None) -> tuple[MeasuredSet, ...]:
    """Every test set with all of its rows; cells whose data is missing have no measured number.

    `tuned`: rows that were searched, by name.
    """
    return tuple(_set(run, test.name, tuned or {}) for test in run.plan.table.tests)


def _set(run: TableRun, test: str, tuned: Mapping[str, TunedRow]) -> MeasuredSet:
    plan = run.plan
    images = plan.images.get(test)
    taken = next((plan.taken.get(one.dataset) for one in plan.table.tests if one.name == test), None)
    is_other = taken is not None and (taken.stands_in or taken.is_given)
    shown = f"{taken.dataset.name} in place of {test}" if taken and is_other else test
    rows = tuple(
        MeasuredRow(
            name=row.name,
            cells=cells_of(plan, row, run.rows[row.name].scores, test),
            error=run.rows[row.name].error,
            tuned=cells_of(plan, row, found.scores, test) if (found := tuned.get(row.name)) else None,
            tuned_params=found.params if found else None,
        )
        for row in plan.rows
    )
    return MeasuredSet(test, shown, 0 if images is None else images.number, rows)


def cells_of(
    plan: TablePlan, row: RowPlan, scores: Mapping[tuple[int, int, str], SetScores], test: str
) -> tuple[Cell, ...]:
    """The cells of a row: `scores` by seed, fold and test set."""
    found = [one for (_, _, name), one in sorted(scores.items()) if name == test]
    return tuple(
        _cell(plan.table.number(row.name, test, place), column, row, found)
        for place, column in enumerate(plan.table.columns)
    )


def _cell(published: float | None, column: Column, row: RowPlan, found: Sequence[SetScores]) -> Cell:
    if column.measure in ("parameters", "operations"):
        return Cell(published, _size(row, column.measure))
    if not found:
        return Cell(published, None)
    if column.measure == "fps":
        times = [one.inference_ms for one in found if one.inference_ms]
        return Cell(published, 1000 / float(np.median(times)) if times else None)
    assert column.score is not None
    name = column.score if row.row.reads is None else f"{column.score}@{row.row.reads}"
    runs = [one.values[name] for one in found]
    reduce = PAPER_SCORES[column.score].reduce
    numbers = [float(reduce(values)) for values in runs]
    spread = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
    return Cell(
        published, float(np.mean(numbers)), _interval(runs, reduce, [one.case_ids for one in found]), spread
    )


def _size(row: RowPlan, measure: str) -> float:
    configuration = row.configuration
    params = {
        key: one for key, one in configuration.network_params.items() if key not in ("pretrained", "weights")
    }
    network = cost.on_meta(configuration.network, **params)
    if measure == "parameters":
        size = cost.size(network)
        return float(size.learnable + size.statistics)
    return 2 * cost.multiply_accumulates(network, PAPER_SIDE, PAPER_SIDE) / 1e9


def _interval(
    runs: Sequence[np.ndarray], reduce: Any, case_ids: Sequence[tuple[str, ...]]
) -> tuple[float, float] | None:
    """95 % bootstrap interval over images: the same resampled images for all runs."""
    rng = np.random.default_rng(0)
    same = len(set(case_ids)) == 1
    if min(map(len, runs)) < 5:
        return None
    means = []
    for _ in range(NUM_RESAMPLES):
        places = rng.integers(0, len(runs[0]), len(runs[0]))
        means.append(
            np.mean(
                [
                    reduce(values[places if same else rng.integers(0, len(values), len(values))])
                    for values in runs
                ]
            )
        )
    low, high = np.nanquantile(means, [0.025, 0.975])
    return (float(low), float(high)) if math.isfinite(low) and math.isfinite(high) else None


def dice_by_image(run: RowRun, test: str) -> dict[str, float]:
    """Case id -> Dice at 0.5 at the file's size, mean over seeds and folds."""
    values: dict[str, list[float]] = {}
    for (_, _, name), one in run.scores.items():
        if name == test:
            for case_id, dice in zip(one.case_ids, one.values["dice_image"], strict=True):
                values.setdefault(case_id, []).append(float(dice))
    return {case_id: float(np.mean(found)) for case_id, found in values.items()}
