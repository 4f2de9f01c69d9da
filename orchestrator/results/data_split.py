"""Datasets and their split, outside of a study: in numbers, in remarks, and as a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.common.display import Display
from orchestrator.common.errors import python_errors_of
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.plan import group_of_case
from orchestrator.data.splits.proportions import hold_out_line, lopsided, reason_in_words
from orchestrator.data.splits.split_file import write_plan
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.views.split_table import PartFacts, split_dict, split_facts
from orchestrator.study.loading import DataChoice


@python_errors_of
@dataclass(frozen=True)
class DataSplit:
    """The datasets that were split, those that nothing is trained on, and the plan."""

    plan: SplitPlan
    datasets: tuple[Dataset, ...]
    unseen: tuple[Dataset, ...]
    holdout: float | None  # share that was asked for; None where a file or an archive says what is held out

    @classmethod
    def of(cls, choice: DataChoice, display: Display) -> DataSplit:
        """Raises `BadData` and `BadSplit`, or both as one error."""
        choice.refuse()
        datasets, unseen, plan = choice.load(display)
        is_given = Path(choice.splits).is_file() or choice.splits == "published"
        return cls(plan, datasets, unseen, None if is_given else choice.holdout)

    @cached_property
    def parts(self) -> list[PartFacts]:
        """Training and validation of every fold, the hold-out test and each unseen dataset, in numbers."""
        return split_facts(self.plan, self.datasets, self.unseen)

    def as_dict(self) -> dict[str, Any]:
        """Every part of the split with its counts, as plain values for JSON."""
        return split_dict(self.plan, self.parts)

    def warning(self) -> str | None:
        """How a fold differs much from the others because of a large group; None where none does."""
        return lopsided(self.plan, self._group_of)

    def lines(self) -> Iterator[str]:
        """Sentences that say which cases are held out and how many are excluded, with the reason."""
        if self.plan.test:
            yield hold_out_line(self.plan, self._group_of, self.holdout)
        for reason, count in self.plan.num_dropped.items():
            yield f"{count} cases are excluded from validation and tests: {reason_in_words(reason)}"

    def write(self, file: str | Path) -> Path:
        """Write the split file, for `splits` of studies and fits."""
        path = Path(file).expanduser()
        write_plan(self.plan, path)
        return path

    @cached_property
    def _group_of(self) -> dict[str, str]:
        return group_of_case((*self.datasets, *self.unseen), self.plan.near_duplicates)
