"""A table at a scale: what will be trained and scored, on which images, and what differs from the paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.common.display import counted
from orchestrator.common.errors import Mistakes
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.protocols.checks import check_apart, check_enough
from orchestrator.protocols.datasets import MissingDataset, Taken, take_datasets
from orchestrator.protocols.fits import RowPlan, Wishes, plan_rows
from orchestrator.protocols.protocol import PaperTable, Protocol, Scale, ScaleName, ScoredSet
from orchestrator.protocols.splits import drawn, of_centers, split_table
from orchestrator.scoring.papers.mediaeval import BATCH


@dataclass(frozen=True)
class Images:
    """The images of a test set: of the whole dataset, or of each fold."""

    dataset: Dataset
    of_fold: tuple[tuple[str, ...], ...]  # fold -> case ids

    @property
    def number(self) -> int:
        return len({id for ids in self.of_fold for id in ids})


@dataclass(frozen=True)
class TablePlan:
    """Plan of a table: data, split, rows and images, before anything is trained."""

    protocol: Protocol
    table_name: str
    table: PaperTable
    scale_name: ScaleName
    scale: Scale
    wishes: Wishes
    taken: Mapping[str, Taken]
    missing: Mapping[str, MissingDataset]
    split: SplitPlan | None
    rows: tuple[RowPlan, ...]
    images: Mapping[str, Images]  # test set -> its images; without those whose dataset is missing
    whole_groups: bool

    @property
    def title(self) -> str:
        return f"{self.protocol.title}, table {self.table_name}"

    @property
    def key(self) -> str:
        """Key of the table in a file of results; some rows alone have a key of their own."""
        whole = f"{self.protocol.name} {self.table_name} {self.scale_name}"
        return f"{whole} only {', '.join(self.only)}" if self.only else whole

    @property
    def only(self) -> tuple[str, ...]:
        """Names of the paper's rows that are run, if not all are; else ()."""
        chosen = tuple(row.name for row in self.rows if not row.row.is_beyond)
        return () if len(chosen) == len(self.protocol.rows_of(self.table)) else chosen

    @property
    def num_fits(self) -> int:
        return len({spec.fit_id for row in self.rows for spec in row.fits})

    def differences(self) -> tuple[str, ...]:
        """Sentences on the differences between plan and paper, one each; none is left out."""
        lines = [text for one in self.taken.values() if (text := one.difference)]
        lines += [f"not here, so its columns are empty: {one.remedy}" for one in self.missing.values()]
        lines += self._of_the_split() if self.split is not None else []
        lines += self._of_the_recipe() if self.split is not None else []
        if random := [row.name for row in self.rows if row.starts_random]:
            lines.append(
                f"weights: random, where the paper starts from {_weights(self)}: {', '.join(random)}; --weights "
                "ROW=FILE, or --imagenet, changes that"
            )
        lines += self.protocol.not_stated if self.split is not None else ()
        return (*lines, *self.table.notes, *self._of_batches())

    def _of_the_split(self) -> list[str]:
        assert self.split is not None and self.table.train is not None
        fold = self.split.folds[0]
        lines = [
            f"trained on {counted(len(fold.train), 'image')}, validated on {len(fold.val):,}"
            + (f", {len(self.split.folds)} of 5 folds" if self.table.split == "five-fold" else "")
        ]
        if self.whole_groups:
            lines.append("videos, patients and near-duplicates are on one side of the split (--whole-groups)")
        else:
            lines.append(
                "split by image, as in the paper: frames of one video are on both sides, which makes scores on the "
                "training dataset too good; --whole-groups keeps them together"
            )
        dataset = self.taken[self.table.train].dataset
        if self.table.centers and all(case.center is None for case in dataset.cases):
            lines.append(
                f"{dataset.name} has no known centers, so all of its images are used, in place of those of "
                + ", ".join(self.table.centers)
            )
        if any(one.part == "validation" for one in self.table.tests):
            lines.append(
                "scores on the validation part are too good: the best epoch of each fit was chosen on it"
            )
        return lines

    def _of_batches(self) -> list[str]:
        """Sentences on scores that are too large, as they are divided by the number of batches less one."""
        if not any((column.score or "").endswith("_mediaeval") for column in self.table.columns):
            return []
        numbers = {test: math.ceil(len(images.of_fold[0]) / BATCH) for test, images in self.images.items()}
        return [
            f"{test}: {number} batches divided by {number - 1}, so a perfect network scores "
            f"{number / (number - 1):.2f} and half of that is {number / (number - 1) / 2:.2f}"
            for test, number in numbers.items()
        ]

    def _of_the_recipe(self) -> list[str]:
        """Sentences on the values of the paper's recipe that the scale changes."""
        changes: dict[str, set[str]] = {}
        for row in self.rows:
            published = {**self.protocol.recipe, **row.row.recipe}
            for key in ("image_size", "epochs", "batch_size"):
                found = getattr(row.configuration.recipe, key)
                if key in published and published[key] != found:
                    changes.setdefault(key, set()).add(f"{found} in place of {published[key]}")
        return [
            f"{key.replace('_', ' ')}: {', '.join(sorted(texts, key=_first_number))} (--scale {self.scale_name})"
            for key, texts in changes.items()
        ]


def _first_number(text: str) -> int:
    return int(text.split()[0])


def _weights(plan: TablePlan) -> str:
    named = [row.row.starts_from for row in plan.rows if row.starts_random and row.row.starts_from]
    named += ["ImageNet"] if any(row.row.imagenet and row.starts_random for row in plan.rows) else []
    return " or ".join(dict.fromkeys(named))


def plan_table(
    protocol: Protocol,
    table_name: str,
    scale_name: ScaleName,
    wishes: Wishes,
    home: Path,
    given: Mapping[str, str],
    grouping: Callable[[Dataset], Mapping[str, str]] | None = None,
) -> TablePlan:
    """Find data, split it, and make every row's fits. Raises one error with everything that is wrong.

    `grouping`: the training dataset -> case id -> group that the split keeps whole; None: it splits by image.
    """
    table, scale = protocol.table(table_name), protocol.scale(scale_name)
    given = {wanted: name for wanted, name in given.items() if wanted in table.datasets}
    mistakes = Mistakes()
    with mistakes.noted():
        plan_rows(protocol, table, scale, wishes, None)
    with mistakes.noted():
        taken, missing = take_datasets(table, home, given)
    mistakes.raise_all()
    check_apart(table, taken)
    split = None
    if table.train is not None:
        source = taken[table.train].dataset
        split = split_table(table, source, scale, None if grouping is None else grouping(source))
    images = {
        one.name: found for one in table.tests if (found := _images(one, taken, split, scale)) is not None
    }
    check_enough(table, {test: found.of_fold for test, found in images.items()})
    rows = plan_rows(protocol, table, scale, wishes, split)
    name = next(name for name, one in protocol.tables.items() if one is table)
    return TablePlan(
        protocol,
        name,
        table,
        scale_name,
        scale,
        wishes,
        taken,
        missing,
        split,
        rows,
        images,
        grouping is not None,
    )


def _images(
    test: ScoredSet, taken: Mapping[str, Taken], split: SplitPlan | None, scale: Scale
) -> Images | None:
    if test.part == "none" or test.dataset not in taken or split is None:
        return None
    dataset, folds = taken[test.dataset].dataset, split.folds
    if test.part == "all":
        ids = drawn(of_centers(dataset, test.centers), scale.test_images)
        return Images(dataset, (ids,) * len(folds))
    return Images(dataset, tuple(fold.test if test.part == "test" else fold.val for fold in folds))
